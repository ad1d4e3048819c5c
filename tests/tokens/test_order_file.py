"""Published index files: raw or NPY, told apart, and never read past their end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import DataFault, FileMissing
from portal.tokens.orders import locate_rows
from portal.tokens.readers import OrderFile, open_order_file
from tests.tokens.chunks_on_disk import files_of
from tests.tokens.orders_made import order

DTYPES = {"u16": "<u2", "u32": "<u4", "i32": "<i4", "i64": "<i8", "u64": "<u8"}


def opened(path: Path, dtype: str | None) -> OrderFile:
    return open_order_file(order("index", dtype=dtype), files_of([path])[0])


@given(
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 32_767), min_size=1, max_size=50),
    st.integers(0, 60),
    st.integers(0, 60),
    st.booleans(),
)
def test_any_part_of_any_dtype(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, values: list[int], start: int, count: int, npy: bool
) -> None:
    path = tmp_path_factory.mktemp("order") / "global_indices.npy"
    array = np.array(values, DTYPES[dtype])
    np.save(path, array) if npy else path.write_bytes(array.tobytes())
    read = opened(path, None if npy else dtype)
    assert read.entries == len(values)
    assert read(start, count).tolist() == values[start : start + count]
    assert read(-1, count).tolist() == []


def test_a_step_reads_only_its_own_entries(tmp_path: Path) -> None:
    (tmp_path / "o.npy").write_bytes(np.random.default_rng(1).permutation(1000).astype("<u4").tobytes())
    read = opened(tmp_path / "o.npy", "u32")
    before = read.tally.bytes_read
    expected = np.random.default_rng(1).permutation(1000)[40:44].tolist()
    assert [ref.row for ref in locate_rows(order("index", ("c0",)), 4, {"c0": 1000}, 11, 0, 4, read)] == expected
    assert read.tally.bytes_read - before == 16
    read.close()


def test_contradictions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "o.npy"
    np.save(path, np.arange(10, dtype="<u4"))
    with pytest.raises(DataFault, match="declared as int64, but its NPY header says uint32"):
        opened(path, "i64")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataFault, match="which is not 10 whole uint32 entries behind its header"):
        opened(path, "u32")
    path.write_bytes(bytes(41))
    with pytest.raises(DataFault, match="41 bytes long, which is not 10 whole uint32 entries"):
        opened(path, "u32")
    with pytest.raises(DataFault, match="of which type"):
        opened(path, None)
    path.unlink()
    with pytest.raises(FileMissing):
        opened(path, "u32")


def test_entries_that_no_count_reaches_are_refused(tmp_path: Path) -> None:
    (tmp_path / "o.npy").write_bytes(np.array([1, 2**64 - 1], "<u8").tobytes())
    read = opened(tmp_path / "o.npy", "u64")
    assert read(0, 1).tolist() == [1]
    with pytest.raises(DataFault, match=r"2\*\*63"):
        read(0, 2)
