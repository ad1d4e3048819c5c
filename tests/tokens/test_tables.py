"""Parquet and arrow: only the groups that hold the rows are read, and hostile files end in one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from portal.errors import DataFault
from portal.tokens.readers import Row, RowFault, RowReader, open_reader
from tests.tokens.chunks_on_disk import entry, files_of, table_of

ROWS = np.random.default_rng(3).integers(0, 32_000, (4000, 64)).tolist()


def parquet(folder: Path, table: pa.Table, **options: Any) -> RowReader:
    pq.write_table(table, folder / "rows.parquet", **options)
    return open_reader(entry("parquet", [folder / "rows.parquet"], None), files_of([folder / "rows.parquet"]), folder)


def arrow(folder: Path, table: pa.Table, **given: Any) -> RowReader:
    with pa.ipc.new_stream(folder / "rows.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    return open_reader(
        entry("arrow", [folder / "rows.arrow"], None, **given), files_of([folder / "rows.arrow"]), folder
    )


def test_one_row_of_parquet_costs_its_row_group_and_columns(tmp_path: Path) -> None:
    wide = table_of(ROWS).append_column("text", [["x" * 500 + str(k) for k in range(len(ROWS))]])
    reader = parquet(tmp_path, wide, row_group_size=500, compression="none")
    size = (tmp_path / "rows.parquet").stat().st_size
    before = reader.bytes_read
    found = reader.read([1234])[0]
    assert isinstance(found, Row)
    assert found.token_ids.tolist() == ROWS[1234]
    assert found.extra == {"group": 2, "row_in_group": 234}
    assert reader.bytes_read - before < size / 16
    assert found.length < size / 8


def test_neighbouring_rows_cost_one_group_once(tmp_path: Path) -> None:
    reader = arrow(tmp_path, table_of(ROWS))
    reader.read([10])
    before = reader.bytes_read
    reader.read([11, 12, 999])
    assert reader.bytes_read == before
    reader.read([1000])
    assert reader.bytes_read > before


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.uint16()), pa.list_(pa.int32(), 64)])
@pytest.mark.parametrize("write", [parquet, arrow])
def test_every_list_of_integers_is_read(tmp_path: Path, kind: pa.DataType, write: Any) -> None:
    table = pa.table({"token_ids": pa.array(ROWS[:5], kind)})
    assert [row.token_ids.tolist() for row in write(tmp_path, table).read(range(5)) if isinstance(row, Row)] == ROWS[:5]


@pytest.mark.parametrize("write", [parquet, arrow])
def test_nulls_are_faults_of_their_row(tmp_path: Path, write: Any) -> None:
    table = pa.table({"token_ids": pa.array([[1, 2], None, [3, None], [4, 5]], pa.list_(pa.int32()))})
    found = write(tmp_path, table).read(range(4))
    assert [isinstance(f, RowFault) and "null" in f.message for f in found] == [False, True, True, False]


@pytest.mark.parametrize("write", [parquet, arrow])
def test_the_column_must_be_there_and_hold_lists(tmp_path: Path, write: Any) -> None:
    with pytest.raises(DataFault, match=r"no column 'token_ids' \(it has text\)"):
        write(tmp_path, pa.table({"text": ["a"]}))
    with pytest.raises(DataFault, match="is string, not a list of integers"):
        write(tmp_path, pa.table({"token_ids": ["a"]}))
    with pytest.raises(DataFault, match="not a list of integers"):
        write(tmp_path, pa.table({"token_ids": pa.array([[1.5]])}))


@pytest.mark.parametrize("write", [parquet, arrow])
def test_sources_that_are_no_text_are_left_out(tmp_path: Path, write: Any) -> None:
    table = pa.table({"token_ids": pa.array([[1]], pa.list_(pa.int32())), "source": [7]})
    found = write(tmp_path, table).read([0])[0]
    assert isinstance(found, Row)
    assert found.source is None


def test_another_column_can_be_named(tmp_path: Path) -> None:
    table = pa.table({"input_ids": pa.array(ROWS[:2], pa.list_(pa.int32()))})
    assert arrow(tmp_path, table, column="input_ids").rows == 2


@pytest.mark.parametrize("write", [parquet, arrow])
def test_a_group_beyond_the_limit_is_a_fault(tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("parquet", "arrow"):
        monkeypatch.setattr(f"portal.tokens.readers.{module}.MAX_GROUP", 1000)
    found = write(tmp_path, table_of(ROWS[:100])).read([3])[0]
    assert isinstance(found, RowFault)
    assert "one row costs all of it" in found.message


def test_a_batch_that_decompresses_beyond_the_limit_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"token_ids": pa.array([[0] * 10_000] * 20, pa.list_(pa.int32()))})
    with pa.ipc.new_file(
        tmp_path / "a.arrow", table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as writer:
        writer.write_table(table)
    assert (tmp_path / "a.arrow").stat().st_size < 20_000
    monkeypatch.setattr("portal.tokens.readers.arrow.MAX_GROUP", 100_000)
    reader = open_reader(entry("arrow", [tmp_path / "a.arrow"], None), files_of([tmp_path / "a.arrow"]), tmp_path)
    found = reader.read([0])[0]
    assert isinstance(found, RowFault)
    assert "one row costs all of it" in found.message


def test_old_groups_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.tokens.readers.tables.KEPT_BYTES", 1)
    reader = arrow(tmp_path, table_of(ROWS))
    found = reader.read([0, 3999, 1, 2000])
    assert [row.token_ids.tolist() for row in found if isinstance(row, Row)] == [ROWS[k] for k in (0, 3999, 1, 2000)]


def test_dictionary_columns_are_refused(tmp_path: Path) -> None:
    table = table_of(ROWS[:4])
    coded = table.set_column(2, "source", table.column("source").dictionary_encode())
    with pytest.raises(DataFault, match="stores source as dictionary codes"):
        arrow(tmp_path, coded)


@pytest.mark.parametrize("text", [b"", b"ARROW1\0\0", b"hello, this is no arrow file", b"\xff" * 100, b"\0" * 64])
@pytest.mark.parametrize("format_", ["arrow", "parquet"])
def test_other_files_are_refused(tmp_path: Path, format_: str, text: bytes) -> None:
    path = tmp_path / "rows"
    path.write_bytes(text)
    with pytest.raises(DataFault, match="rows"):
        open_reader(entry(format_, [path], None), files_of([path]), tmp_path)
