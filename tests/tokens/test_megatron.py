"""Megatron pairs: both dialects, shards as one stream, and indexes that belong elsewhere."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import DataFault
from portal.tokens.readers import Row, RowFault, RowReader, open_reader
from portal.tokens.readers.megatron_index import HEADER, MAGIC
from tests.tokens.chunks_on_disk import FarStore, entry, files_of, megatron_index


def opened(
    folder: Path, bins: list[bytes], index: bytes | None, row_length: int | None = None, **given: Any
) -> RowReader:
    paths = []
    for k, data in enumerate(bins):
        paths.append(folder / f"{k}.bin")
        paths[-1].write_bytes(data)
    if index is not None:
        paths.insert(0, folder / "rows.idx")
        paths[0].write_bytes(index)
    store = given.pop("store", None)
    return open_reader(entry("megatron", paths, row_length, **given), files_of(paths, store), folder)


def raw(rows: list[list[int]], dtype: str) -> bytes:
    return b"".join(np.array(row, dtype).tobytes() for row in rows)


DOCUMENTS = [[1, 2, 3], [], [4], [5, 6, 7, 8, 9], [10]]


@given(st.lists(st.lists(st.integers(0, 65_535), max_size=9), max_size=9), st.lists(st.floats(0, 1), max_size=4))
def test_rows_of_any_length_over_any_shards(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], cuts: list[float]
) -> None:
    data = raw(rows, "<u2")
    at = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
    shards = [data[a:b] for a, b in pairwise(at)]
    reader = opened(tmp_path_factory.mktemp("m"), shards, megatron_index([len(r) for r in rows], 2, 8))
    assert [row.token_ids.tolist() for row in reader.read(range(len(rows))) if isinstance(row, Row)] == rows
    assert reader.check() == []


@pytest.mark.parametrize(("code", "dtype"), [(1, "<u1"), (2, "<i1"), (3, "<i2"), (4, "<i4"), (5, "<i8"), (8, "<u2")])
def test_every_dtype_code(tmp_path: Path, code: int, dtype: str) -> None:
    index = megatron_index([len(r) for r in DOCUMENTS], np.dtype(dtype).itemsize, code)
    reader = opened(tmp_path, [raw(DOCUMENTS, dtype)], index)
    assert [row.token_ids.tolist() for row in reader.read(range(5)) if isinstance(row, Row)] == DOCUMENTS


class TestDialects:
    """Codes 6 and 7 are float32 and float64, or the other way round."""

    @pytest.mark.parametrize(
        ("dialect", "code", "dtype"),
        [("neox", 6, "<f4"), ("neox", 7, "<f8"), ("megatron", 6, "<f8"), ("megatron", 7, "<f4")],
    )
    def test_each_reads_its_own(self, tmp_path: Path, dialect: str, code: int, dtype: str) -> None:
        index = megatron_index([3, 2], np.dtype(dtype).itemsize, code)
        reader = opened(tmp_path, [raw([[1, 2, 3], [4, 50_000]], dtype)], index, dialect=dialect)
        assert [row.token_ids.tolist() for row in reader.read([0, 1]) if isinstance(row, Row)] == [
            [1, 2, 3],
            [4, 50_000],
        ]

    def test_without_one_it_is_not_guessed(self, tmp_path: Path) -> None:
        with pytest.raises(DataFault, match="float32 or float64") as caught:
            opened(tmp_path, [raw([[1, 2]], "<f4")], megatron_index([2], 4, 6))
        assert "dialect: neox" in caught.value.remedy

    def test_the_wrong_one_is_noticed(self, tmp_path: Path) -> None:
        with pytest.raises(DataFault, match="first row is 12 bytes long, but 24 as float64") as caught:
            opened(tmp_path, [raw([[1, 2, 3], [4, 5]], "<f4")], megatron_index([3, 2], 4, 6), dialect="megatron")
        assert "other `dialect`" in caught.value.remedy

    @pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), 1e300])
    def test_a_float_that_is_no_whole_number_is_a_fault(self, tmp_path: Path, value: float) -> None:
        data = np.array([1, value, 3, 4], "<f8").tobytes()
        reader = opened(tmp_path, [data], megatron_index([2, 2], 8, 7), dialect="neox")
        first, second = reader.read([0, 1])
        assert isinstance(first, RowFault)
        assert "token 1 of the row is" in first.message
        assert isinstance(second, Row)


class TestDisagreement:
    """An index that does not describe its stream."""

    def test_a_shorter_stream_keeps_its_whole_rows(self, tmp_path: Path) -> None:
        reader = opened(tmp_path, [raw([[1, 2], [3, 4]], "<u2") + b"\x05\x00"], megatron_index([2, 2, 2], 2, 8))
        found = reader.read([0, 1, 2])
        assert [row.token_ids.tolist() for row in found if isinstance(row, Row)] == [[1, 2], [3, 4]]
        assert isinstance(found[2], RowFault)
        assert "bytes 8 to 12 of 10" in found[2].message
        assert reader.check() == ["rows.idx describes 12 bytes, the .bin files hold 10"]

    def test_a_longer_stream_belongs_to_another_index(self, tmp_path: Path) -> None:
        reader = opened(tmp_path, [raw([[1, 2], [3, 4], [5, 6]], "<u2")], megatron_index([2, 2], 2, 8))
        found = reader.read([0, 1])
        assert all(
            isinstance(f, RowFault) and "describes 8 bytes, but the .bin files hold 12" in f.message for f in found
        )
        assert any("describes 8 bytes" in line for line in reader.check())

    def test_pointers_that_do_not_follow_the_sizes_are_found(self, tmp_path: Path) -> None:
        index = bytearray(megatron_index([2, 2, 2], 2, 8))
        at = HEADER.size + 3 * 4 + 8
        index[at : at + 8] = (6).to_bytes(8, "little")
        reader = opened(tmp_path, [raw([[1, 2], [3, 4], [5, 6]], "<u2")], bytes(index))
        assert reader.check() == ["rows.idx: row 1 does not begin where the row before it ends"]

    def test_negative_sizes_and_pointers_are_faults(self, tmp_path: Path) -> None:
        index = bytearray(megatron_index([2, 2, 2], 2, 8))
        index[HEADER.size : HEADER.size + 4] = (-2).to_bytes(4, "little", signed=True)
        at = HEADER.size + 3 * 4 + 8
        index[at : at + 8] = (-6).to_bytes(8, "little", signed=True)
        found = opened(tmp_path, [raw([[1, 2], [3, 4], [5, 6]], "<u2")], bytes(index)).read([0, 1, 2])
        assert [isinstance(f, RowFault) for f in found] == [True, True, False]

    def test_a_document_list_of_another_length(self, tmp_path: Path) -> None:
        index = bytearray(megatron_index([2], 2, 8))
        index[-8:] = (7).to_bytes(8, "little")
        reader = opened(tmp_path, [raw([[1, 2]], "<u2")], bytes(index))
        assert reader.check() == ["rows.idx: its document list does not end at row 1"]

    def test_another_dtype_than_declared(self, tmp_path: Path) -> None:
        with pytest.raises(DataFault, match="uint16, the manifest says uint32"):
            opened(tmp_path, [raw([[1, 2]], "<u2")], megatron_index([2], 2, 8), dtype="u32")


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (b"", "does not begin with MMIDIDX"),
        (b"TNTIDX\x00\x00" + bytes(40), "old TNTIDX"),
        (b"PK\x03\x04" + bytes(40), "does not begin with MMIDIDX"),
        (HEADER.pack(MAGIC, 1, 8, 10**12, 1), "announces 1,000,000,000,000 rows"),
        (HEADER.pack(MAGIC, 2, 8, 0, 0), "version 2"),
        (HEADER.pack(MAGIC, 1, 99, 0, 0), "dtype code 99"),
    ],
)
def test_a_file_that_is_no_index(tmp_path: Path, index: bytes, said: str) -> None:
    with pytest.raises(DataFault, match=said):
        opened(tmp_path, [bytes(4)], index)


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0], [1]])
def test_a_row_beyond_the_limit_is_not_read(tmp_path: Path, rows: list[int]) -> None:
    """A damaged size would otherwise cost up to 16 GB of memory for one row."""
    data = raw([[1, 2], [3] * 5000, [4, 5]], "<u2")
    paths = [tmp_path / "rows.idx", tmp_path / "0.bin"]
    paths[0].write_bytes(megatron_index([2, 5000, 2], 2, 8))
    paths[1].write_bytes(data)
    reader = open_reader(entry("megatron", paths, None), files_of(paths), tmp_path, max_line_bytes=1000)
    before = reader.bytes_read
    found = dict(zip(rows, reader.read(rows), strict=True))
    assert reader.bytes_read - before < 1000
    assert [isinstance(found[k], RowFault) for k in rows] == [k == 1 for k in rows]
    if 1 in found:
        assert "10,000 bytes long; rows above 1,000 bytes are not read" in found[1].message  # type: ignore[union-attr]


class TestWithoutIndex:
    """Pythia's preshuffled shards: every row 2,049 ids of two bytes."""

    def test_rows_run_on_over_shards(self, tmp_path: Path) -> None:
        rows = np.arange(5 * 2049).reshape(5, 2049).tolist()
        data = raw(rows, "<u2")
        reader = opened(tmp_path, [data[:5001], data[5001:12_000], data[12_000:]], None, 2049, dtype="u16")
        assert reader.rows == 5
        assert [row.token_ids.tolist() for row in reader.read(range(5)) if isinstance(row, Row)] == rows
        found = reader.read([4])[0]
        assert isinstance(found, Row)
        assert (found.file, found.offset, found.length) == ("2.bin", 4 * 4098 - 12_000, 4098)

    def test_left_over_bytes_are_reported(self, tmp_path: Path) -> None:
        reader = opened(tmp_path, [bytes(10)], None, 2, dtype="u16")
        assert reader.check() == ["2 bytes follow the last whole row of 4 bytes"]

    def test_length_and_dtype_must_be_declared(self, tmp_path: Path) -> None:
        with pytest.raises(DataFault, match="length of its rows is not known"):
            opened(tmp_path, [bytes(8)], None, None, dtype="u16")

    def test_an_index_alone_or_two_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataFault, match=r"1 \.idx and 0 \.bin"):
            opened(tmp_path, [], megatron_index([], 2, 8))


def test_a_far_index_is_read_entry_by_entry(tmp_path: Path) -> None:
    rows = [[k, k + 1] for k in range(500)]
    reader = opened(tmp_path, [raw(rows, "<u2")], megatron_index([2] * 500, 2, 8), store=FarStore())
    before = reader.bytes_read
    found = reader.read([499, 0, 250])
    assert [row.token_ids.tolist() for row in found if isinstance(row, Row)] == [rows[499], rows[0], rows[250]]
    assert reader.bytes_read - before == 3 * (4 + 4 + 8)
