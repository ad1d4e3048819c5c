"""CrystalCoder's layout, and HDF5 features that could reach outside the file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from portal.errors import DataFault, TooLarge
from portal.tokens.readers import Row, RowReader, open_reader
from tests.tokens.chunks_on_disk import entry, files_of

IDS = np.arange(6 * 8, dtype="<i4").reshape(6, 8)
PLANES = np.stack([IDS, np.tri(6, 8, dtype="<i4"), IDS + 1], axis=1)


def opened(path: Path, row_length: int | None = 8, column: str | None = None) -> RowReader:
    return open_reader(entry("hdf5", [path], row_length, column=column), files_of([path]), path.parent)


def test_mask_and_labels_come_beside_the_ids(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=PLANES, chunks=(1, 3, 8), compression="gzip")
    found = opened(tmp_path / "a.h5").read([4])[0]
    assert isinstance(found, Row)
    assert found.token_ids.tolist() == IDS[4].tolist()
    assert found.extra["loss_mask"].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert found.extra["labels"].tolist() == (IDS[4] + 1).tolist()


@pytest.mark.parametrize("chunks", [None, (2, 3, 8)])
def test_the_place_of_a_row_is_where_its_bytes_lie(tmp_path: Path, chunks: tuple[int, ...] | None) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=PLANES, chunks=chunks)
    found = opened(tmp_path / "a.h5").read([4])[0]
    assert isinstance(found, Row)
    raw = (tmp_path / "a.h5").read_bytes()[found.offset : found.offset + found.length]
    assert raw == PLANES[4 : 4 + (1 if chunks is None else 2)].tobytes()


def test_the_file_says_how_many_rows_it_has(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=IDS)
        file.attrs["n_examples"] = 7
    assert opened(tmp_path / "a.h5").check() == ["a.h5: n_examples says 7, /data holds 6 rows"]


@pytest.mark.parametrize("said", ["many", [6, 6], "none"])
def test_an_announcement_that_is_no_number_says_nothing(tmp_path: Path, said: object) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=IDS)
        if said != "none":
            file.attrs["n_examples"] = said
    assert opened(tmp_path / "a.h5").check() == []


def test_another_dataset_can_be_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("tokens", data=IDS)
    assert opened(tmp_path / "a.h5", column="tokens").rows == 6
    with pytest.raises(DataFault, match=r"no dataset 'data' of its own \(it has tokens\)"):
        opened(tmp_path / "a.h5")


@pytest.mark.parametrize("data", [IDS.astype("<f4"), IDS[0], PLANES[:, :2], PLANES[None]])
def test_other_shapes_and_types_are_refused(tmp_path: Path, data: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=data)
    with pytest.raises(DataFault, match="in shape"):
        opened(tmp_path / "a.h5")


class TestOutside:
    """A released file must not read another file of the machine that serves it."""

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        with h5py.File(tmp_path / "secret.h5", "w") as file:
            file.create_dataset("data", data=IDS)
        (tmp_path / "secret.raw").write_bytes(IDS.tobytes())
        return tmp_path

    def test_an_external_link_is_refused(self, secret: Path) -> None:
        with h5py.File(secret / "a.h5", "w") as file:
            file["data"] = h5py.ExternalLink(str(secret / "secret.h5"), "/data")
        with pytest.raises(DataFault, match="of its own"):
            opened(secret / "a.h5")

    def test_external_storage_is_refused(self, secret: Path) -> None:
        with h5py.File(secret / "a.h5", "w") as file:
            file.create_dataset("data", (6, 8), "<i4", external=[(str(secret / "secret.raw"), 0, h5py.h5f.UNLIMITED)])
        with pytest.raises(DataFault, match="no plain dataset"):
            opened(secret / "a.h5")

    def test_virtual_data_is_refused(self, secret: Path) -> None:
        layout = h5py.VirtualLayout((6, 8), "<i4")
        layout[:] = h5py.VirtualSource(str(secret / "secret.h5"), "data", (6, 8))
        with h5py.File(secret / "a.h5", "w") as file:
            file.create_virtual_dataset("data", layout)
        with pytest.raises(DataFault, match="no plain dataset"):
            opened(secret / "a.h5")

    def test_a_group_is_refused(self, secret: Path) -> None:
        with h5py.File(secret / "a.h5", "w") as file:
            file.create_group("data")
        with pytest.raises(DataFault, match="no plain dataset"):
            opened(secret / "a.h5")


def test_a_chunk_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    """512 MiB of zeros, which gzip stores in almost nothing."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", (1 << 16, 2048), "<i4", chunks=(1 << 16, 2048), compression="gzip")
    with pytest.raises(TooLarge, match="536,870,912 bytes"):
        opened(tmp_path / "a.h5", 2048)


@pytest.mark.parametrize("text", [b"", b"\x89HDF\r\n\x1a\n", b"no such format" * 10])
def test_other_files_are_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(text)
    with pytest.raises(DataFault, match="not a readable HDF5 file"):
        opened(tmp_path / "a.h5")


def test_ids_of_the_other_byte_order_are_turned(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=IDS.astype(">i4"))
    found = opened(tmp_path / "a.h5").read([4])[0]
    assert isinstance(found, Row)
    assert found.token_ids.tolist() == IDS[4].tolist()
    assert found.token_ids.dtype.isnative
