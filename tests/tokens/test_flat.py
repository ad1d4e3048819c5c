"""Raw ids: a header is declared or it is an error, whatever the file is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import DataFault
from portal.tokens.readers import Row, RowFault, RowReader, open_reader
from tests.tokens.chunks_on_disk import entry, files_of


def opened(path: Path, row_length: int | None = 4, **given: Any) -> RowReader:
    return open_reader(entry("flat", [path], row_length, **given), files_of([path]), path.parent)


@pytest.mark.parametrize(
    ("dtype", "name"), [("<u1", "u8"), ("<u2", "u16"), ("<u4", "u32"), ("<i4", "i32"), ("<i8", "i64")]
)
def test_every_width_reads_its_own_extremes(tmp_path: Path, dtype: str, name: str) -> None:
    path = tmp_path / "ids.bin"
    high = np.iinfo(dtype).max
    path.write_bytes(np.array([0, 1, high - 1, high], dtype).tobytes())
    found = opened(path, dtype=name).read([0])[0]
    assert isinstance(found, Row)
    assert found.token_ids.tolist() == [0, 1, high - 1, high]


def test_ids_keep_the_width_they_are_stored_in(tmp_path: Path) -> None:
    path = tmp_path / "ids.bin"
    for dtype, name in (("<u1", "u8"), ("<u2", "u16"), ("<u4", "u32"), ("<i4", "i32"), ("<i8", "i64")):
        path.write_bytes(np.arange(4, dtype=dtype).tobytes())
        found = opened(path, dtype=name).read([0])[0]
        assert isinstance(found, Row)
        assert found.token_ids.dtype == np.dtype(dtype)


def test_unsigned_ids_of_64_bits_never_wrap_into_an_id(tmp_path: Path) -> None:
    path = tmp_path / "ids.bin"
    path.write_bytes(np.array([[1, 2, 3, 2**63 - 1], [1, 2, 3, 2**63]], "<u8").tobytes())
    found = opened(path, dtype="u64").read([0, 1])
    assert isinstance(found[0], Row)
    assert found[0].token_ids.dtype == np.int64
    assert found[0].token_ids.tolist() == [1, 2, 3, 2**63 - 1]
    assert isinstance(found[1], RowFault)
    assert f"token 3 of the row is id {2**63}, which no vocabulary has" in found[1].message


def test_ids_of_the_other_byte_order_are_turned(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([1, 2, 3, 770], ">u2"))
    found = opened(tmp_path / "a.npy", header="npy").read([0])[0]
    assert isinstance(found, Row)
    assert found.token_ids.tolist() == [1, 2, 3, 770]
    assert found.token_ids.dtype.isnative


def test_a_negative_id_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "ids.bin"
    path.write_bytes(np.array([[1, 2, 3, 4], [1, -2, 3, 4]], "<i4").tobytes())
    found = opened(path, dtype="i32").read([0, 1])
    assert isinstance(found[0], Row)
    assert isinstance(found[1], RowFault)
    assert "token 1 of the row is id -2, which no vocabulary has" in found[1].message


class TestHeader:
    """The same name, two formats."""

    def test_a_header_nobody_declared_is_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.arange(8, dtype="<u2"))
        for header in (None, "none"):
            with pytest.raises(DataFault, match="begins with an NPY header") as caught:
                opened(tmp_path / "a.npy", dtype="u16", header=header)
            assert "header: npy" in caught.value.remedy

    def test_a_header_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.npy").write_bytes(np.arange(8, dtype="<u2").tobytes())
        with pytest.raises(DataFault, match=re.escape("does not begin with the bytes 93 4E")) as caught:
            opened(tmp_path / "a.npy", dtype="u16", header="npy")
        assert "header: none" in caught.value.remedy

    def test_header_and_manifest_must_agree(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.zeros((3, 5), "<u2"))
        with pytest.raises(DataFault, match="says uint16"):
            opened(tmp_path / "a.npy", 5, dtype="u32", header="npy")
        with pytest.raises(DataFault, match="rows of 5 ids, not 4"):
            opened(tmp_path / "a.npy", 4, header="npy")
        assert opened(tmp_path / "a.npy", 5, header="npy", dtype="u16").rows == 3

    @pytest.mark.parametrize(
        "values",
        [np.zeros(8, "<f4"), np.asfortranarray(np.zeros((4, 2), "<u2")), np.zeros((2, 2, 2), "<u2"), np.array(3)],
    )
    def test_arrays_that_are_no_rows_are_refused(self, tmp_path: Path, values: np.ndarray) -> None:
        np.save(tmp_path / "a.npy", values)
        with pytest.raises(DataFault, match="NPY file of"):
            opened(tmp_path / "a.npy", 2, header="npy")

    @given(st.binary(max_size=200))
    def test_rubbish_behind_the_magic_is_refused(
        self, tmp_path_factory: pytest.TempPathFactory, rubbish: bytes
    ) -> None:
        path = tmp_path_factory.mktemp("npy") / "a.npy"
        path.write_bytes(b"\x93NUMPY" + rubbish)
        with pytest.raises(DataFault, match="header cannot be read"):
            opened(path, 2, header="npy")

    @pytest.mark.parametrize(
        "header",
        [
            b"{'descr': '<u2', 'fortran_order': False, 'shape': (-4,)}",
            b"{'descr': 'O', 'fortran_order': False, 'shape': (4,)}",
            b"{'descr': '<u2', 'fortran_order': False}",
            b"__import__('os').system('true')",
            b"(" * 5000,
        ],
    )
    def test_hostile_headers_are_refused(self, tmp_path: Path, header: bytes) -> None:
        (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8))
        with pytest.raises(DataFault):
            opened(tmp_path / "a.npy", 2, header="npy")

    def test_a_header_longer_than_any_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little") + bytes(100))
        with pytest.raises(DataFault, match="1,073,741,836 bytes long"):
            opened(tmp_path / "a.npy", 2, header="npy")

    def test_a_file_shorter_than_its_header_says(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.zeros(80, "<u2"))
        data = (tmp_path / "a.npy").read_bytes()
        (tmp_path / "a.npy").write_bytes(data[:-2])
        with pytest.raises(DataFault, match="ends before"):
            opened(tmp_path / "a.npy", 4, header="npy")


def test_what_the_manifest_must_say(tmp_path: Path) -> None:
    path = tmp_path / "ids.bin"
    path.write_bytes(bytes(32))
    with pytest.raises(DataFault, match="of which type") as caught:
        opened(path)
    assert "dtype" in caught.value.remedy
    with pytest.raises(DataFault, match="how many ids a row holds"):
        opened(path, None, dtype="u16")


def test_files_of_one_chunk_have_one_dtype(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(8, "<u2"))
    np.save(tmp_path / "b.npy", np.zeros(8, "<u4"))
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    with pytest.raises(DataFault, match="differ in dtype"):
        open_reader(entry("flat", paths, 4, header="npy"), files_of(paths), tmp_path)


def test_bytes_behind_the_last_row_are_no_row_and_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "ids.bin"
    path.write_bytes(np.arange(11, dtype="<u2").tobytes())
    reader = opened(path, dtype="u16")
    assert reader.rows == 2
    assert reader.check() == ["ids.bin: 6 bytes after the last whole row of 8 bytes"]


def test_a_file_cut_while_it_is_open_keeps_its_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "ids.bin"
    path.write_bytes(np.arange(16, dtype="<u2").tobytes())
    reader = opened(path, dtype="u16")
    with path.open("rb+") as file:
        file.truncate(20)
    found = reader.read([0, 1, 2, 3])
    assert [row.token_ids.tolist() for row in found[:2] if isinstance(row, Row)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert all(isinstance(f, RowFault) and "ends before" in f.message for f in found[2:])


def test_a_run_of_rows_is_one_read_of_exactly_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "ids.bin"
    path.write_bytes(np.arange(4000, dtype="<u2").tobytes())
    reader = opened(path, dtype="u16")
    bytes_before, reads_before = reader.bytes_read, reader.reads
    reader.read(list(range(100, 120)))
    assert (reader.bytes_read - bytes_before, reader.reads - reads_before) == (20 * 8, 1)
    reader.read([900, 3, 500])
    assert reader.bytes_read - bytes_before == 23 * 8
