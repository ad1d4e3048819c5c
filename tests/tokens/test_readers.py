"""One behaviour for every reader: each row once, its neighbours unharmed by a bad one, never a wrong row."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.errors import DataFault, FileMissing, PortalError
from portal.tokens.readers import Row, RowFault, open_reader
from tests.tokens.chunks_on_disk import SOURCES, VARIANTS, FarStore, Written, entry, files_of, write

VARIED = [v for v in VARIANTS if not v.startswith(("flat", "megatron-no-index"))]
"""Formats that store how long each row is."""
WITH_SOURCE = [v for v in VARIANTS if v.startswith(("jsonl", "parquet", "arrow"))]
ROWS = [[1000 * row + column for column in range(5)] for row in range(11)]

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=list(VARIANTS))
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Written:
    """Eleven rows of five ids in every format."""
    return write(request.param, tmp_path, ROWS)


def ids(found: list[Row | RowFault]) -> list[list[int]]:
    """Token ids of rows that must all be readable."""
    assert [f.message for f in found if isinstance(f, RowFault)] == []
    return [row.token_ids.tolist() for row in found if isinstance(row, Row)]


@pytest.mark.parametrize("store", [None, FarStore()], ids=["near", "far"])
def test_every_row_comes_back_exactly_once(written: Written, store: FarStore | None) -> None:
    reader = written.open(store)
    assert reader.rows == len(ROWS)
    found = reader.read(range(reader.rows))
    assert ids(found) == ROWS
    assert [row.row for row in found] == list(range(len(ROWS)))
    assert all(isinstance(row, Row) and row.token_ids.dtype.kind in "iu" for row in found)
    assert reader.bytes_read > 0
    assert reader.reads > 0


@given(st.lists(st.integers(0, len(ROWS) - 1), max_size=30))
@quick
def test_rows_come_in_the_order_asked_for(written: Written, rows: list[int]) -> None:
    assert ids(written.open().read(rows)) == [ROWS[row] for row in rows]


@pytest.mark.parametrize("rows", [range(2, 9), range(9, 2, -3), range(0, 11, 2), range(3, 4), (5, 6, 7)])
def test_rows_may_be_asked_for_in_any_kind_of_sequence(written: Written, rows: range | tuple[int, ...]) -> None:
    assert ids(written.open().read(rows)) == [ROWS[row] for row in rows]


def test_rows_that_do_not_exist_are_faults_in_their_place(written: Written) -> None:
    found = written.open().read([0, len(ROWS), 2, -1, 10**30])
    assert [isinstance(f, RowFault) for f in found] == [False, True, False, True, True]
    assert ids([found[0], found[2]]) == [ROWS[0], ROWS[2]]
    assert f"holds {len(ROWS)}" in found[1].message
    assert found[1].remedy


def test_an_id_beyond_the_vocabulary_is_a_fault_of_its_row_alone(written: Written) -> None:
    found = written.open(vocabulary=10_000).read(range(len(ROWS)))
    assert ids(found[:10]) == ROWS[:10]
    assert isinstance(found[10], RowFault)
    assert "10004" in found[10].message
    assert "vocabulary of 10000" in found[10].message


@pytest.mark.parametrize("variant", VARIED)
def test_a_row_of_another_length_is_a_fault(variant: str, tmp_path: Path) -> None:
    written = write(variant, tmp_path, ROWS)
    written.chunk = entry(written.chunk.format, written.paths, 6, dtype=written.chunk.dtype)
    found = written.open().read([3])
    assert isinstance(found[0], RowFault)
    assert "5 token ids, not 6" in found[0].message


@pytest.mark.parametrize("variant", WITH_SOURCE)
def test_the_source_of_a_row_is_told(variant: str, tmp_path: Path) -> None:
    found = write(variant, tmp_path, ROWS[:4]).open().read(range(4))
    assert [row.source for row in found if isinstance(row, Row)] == [
        SOURCES[k % 2] for k in (range(4) if "two" not in variant else (0, 1, 0, 1))
    ]


def test_rows_say_where_their_bytes_lie(written: Written) -> None:
    for row in written.open().read(range(len(ROWS))):
        assert isinstance(row, Row)
        assert row.file in {path.name for path in written.paths}
        assert row.offset >= 0
        assert row.length > 0


def test_check_finds_a_wrong_number_of_rows(written: Written) -> None:
    fields = {"dtype": written.chunk.dtype, "header": written.chunk.header}
    written.chunk = entry(written.chunk.format, written.paths, 5, rows=12, **fields)
    assert any("12 rows" in line and "hold 11" in line for line in written.open().check())


def test_check_is_silent_about_a_whole_chunk(written: Written) -> None:
    left_over = [line for line in written.open().check() if "last whole row" not in line]
    assert left_over == []


def test_a_missing_file_is_named(written: Written) -> None:
    written.paths[0].unlink()
    with pytest.raises(FileMissing, match=written.paths[0].name) as caught:
        written.open()
    assert str(written.paths[0].parent) not in str(caught.value)


def test_an_empty_question_reads_nothing(written: Written) -> None:
    reader = written.open()
    before = reader.bytes_read
    assert reader.read([]) == []
    assert reader.bytes_read == before


def test_many_threads_read_the_same_rows(written: Written) -> None:
    reader = written.open()
    wrong: list[object] = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(10):
            rows = rng.integers(0, len(ROWS), 4).tolist()
            found = reader.read(rows)
            if [getattr(f, "token_ids", np.zeros(0)).tolist() for f in found] != [ROWS[row] for row in rows]:
                wrong.append(found)

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_closed_reader_lets_go_of_its_files(written: Written) -> None:
    reader = written.open()
    reader.read([0])
    reader.close()
    assert ids(written.open().read([1])) == [ROWS[1]]


def refused_or_read(written: Written) -> list[Row | RowFault]:
    """All rows, or nothing where the chunk as a whole is refused with one of our errors."""
    try:
        reader = written.open()
        reader.check()
        return reader.read(range(len(ROWS)))
    except PortalError:
        return []


@given(cut=st.floats(0, 1, exclude_max=True))
@quick
def test_a_file_cut_anywhere_never_gives_a_wrong_row(variant_folder: tuple[str, Path], cut: float) -> None:
    """Rows before the cut come out right; the rest is a fault or one clear error."""
    variant, folder = variant_folder
    written = write(variant, folder, ROWS)
    data = written.paths[-1].read_bytes()
    written.paths[-1].write_bytes(data[: int(len(data) * cut)])
    found = refused_or_read(written)
    rows = [f for f in found if isinstance(f, Row)]
    if not variant.startswith(("jsonl-two", "flat-two", "megatron-shards")):
        assert [row.token_ids.tolist() for row in rows] == [ROWS[row.row] for row in rows]


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@quick
def test_a_damaged_byte_never_raises_anything_but_our_errors(
    variant_folder: tuple[str, Path], place: float, flip: int
) -> None:
    variant, folder = variant_folder
    written = write(variant, folder, ROWS)
    for path in written.paths:
        data = bytearray(path.read_bytes())
        data[int(len(data) * place)] ^= flip
        path.write_bytes(bytes(data))
    assert len(refused_or_read(written)) in (0, len(ROWS))


@pytest.fixture(params=list(VARIANTS))
def variant_folder(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A format and where to write it again and again."""
    return request.param, tmp_path


@pytest.mark.parametrize("at_hand", [256, 0])
def test_a_file_cut_while_open_is_told_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_hand: int
) -> None:
    """Whether or not a descriptor is kept, answers say nothing of this machine's folders."""
    monkeypatch.setattr("portal.tokens.readers.source._permits", threading.Semaphore(at_hand))
    for variant in ("flat-u16", "megatron", "jsonl"):
        folder = tmp_path / variant
        folder.mkdir()
        written = write(variant, folder, ROWS)
        reader = written.open()
        with written.paths[-1].open("rb+") as file:
            file.truncate(3)
        found = reader.read([10])[0]
        assert isinstance(found, RowFault)
        assert written.paths[-1].name in found.message
        assert str(tmp_path) not in found.message + found.remedy


def test_a_chunk_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="lists no files"):
        open_reader(entry("flat", [], 4, dtype="u16"), [], tmp_path)


def test_files_beyond_the_kept_descriptors_are_read_through_their_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.tokens.readers.source._permits", threading.Semaphore(0))
    written = write("flat-u16", tmp_path, ROWS)
    assert ids(open_reader(written.chunk, files_of(written.paths), tmp_path).read([4, 2])) == [ROWS[4], ROWS[2]]
