"""CSV, TSV and Parquet through Arrow, into columns of numbers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from portal.errors import DataFault
from portal.metrics.ingest.table import SHOWN, Column, Table, parse_number

BLOCK = 8 << 20
"""Bytes parsed at a time; a line of CSV must fit in one block."""


def read_csv(path: Path) -> Table:
    """Read a CSV or TSV with a header line.

    Raises DataFault for an empty file, a line with too many or too few cells, a quote that is
    never closed, or a line longer than 8 MiB, naming the line where Arrow knows it.
    """
    delimiter = _delimiter(path)
    table = _parse(path, delimiter, threads=True)
    columns: dict[str, Column] = {}
    for name, column in zip(_names(table, path), table.columns, strict=True):
        if name in columns:
            raise DataFault(f"{path.name}, line 1: the column {name!r} stands twice.", "Rename one of them.")
        columns[name] = _column(column)
    if any(column.multiline for column in columns.values()):
        _check_quotes(path, delimiter)
    return Table(path.name, table.num_rows, columns, lambda row: _csv_line(path, delimiter, row))


def read_parquet(path: Path) -> Table:
    """Read the flat columns of a Parquet file. Raises DataFault when it is no whole Parquet file."""
    try:
        with pa.parquet.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise DataFault(f"{path.name} cannot be read as Parquet: {_short(error)}", "Write the file again.") from None
    columns = {
        name: _column(column, null_is_written=True)
        for name, column in zip(_names(table, path), table.columns, strict=True)
    }
    return Table(path.name, table.num_rows, columns, lambda row: f"row {row + 1}")


def _parse(path: Path, delimiter: str, threads: bool) -> pa.Table:
    try:
        return pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(block_size=BLOCK, use_threads=threads),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter),
            # Only the empty cell is absent: Arrow's own list would turn NaN into null.
            convert_options=pa.csv.ConvertOptions(
                null_values=[""], strings_can_be_null=True, true_values=[], false_values=[], timestamp_parsers=[]
            ),
        )
    except (pa.ArrowException, OSError) as error:
        if threads and "Row #" not in str(error) and "CSV parse error" in str(error):
            return _parse(path, delimiter, threads=False)
        if "straddl" in str(error):
            raise DataFault(
                f"{path.name} has a line longer than {BLOCK >> 20} MiB.", "Shorten it, or convert the file to Parquet."
            ) from None
        text = _short(error).replace("CSV parse error: ", "").replace("Row #", "line ")
        raise DataFault(
            f"{path.name} cannot be read as CSV: {text}", "Correct the line, or write the file again."
        ) from None


def _names(table: pa.Table, path: Path) -> list[str]:
    try:
        return list(table.column_names)
    except UnicodeDecodeError:
        raise DataFault(f"{path.name} has a column whose name is not UTF-8.", "Save the file as UTF-8.") from None


def _delimiter(path: Path) -> str:
    with path.open("rb") as file:
        header = file.readline(BLOCK)
    if not header.strip():
        raise DataFault(f"{path.name} is empty.", "Publish the file that holds the numbers.")
    return "\t" if b"\t" in header and b"," not in header else ","


def _column(column: pa.ChunkedArray, null_is_written: bool = False) -> Column:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    nulls = column.null_count
    written = nulls if null_is_written else 0
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        if not nulls:
            return Column(_numbers(column), None)
        rows = np.flatnonzero(column.is_valid().to_numpy())
        return Column(_numbers(column.drop_null()), rows.astype(np.int64), nulls=written)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text_column(column, written)
    kept = len(column) - nulls
    first = ((int(np.flatnonzero(column.is_valid().to_numpy())[0]), f"a value of type {kind}"),) if kept else ()
    return Column(np.empty(0), np.empty(0, np.int64), first, kept, written)


def _numbers(column: pa.ChunkedArray) -> Any:
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        # numpy converts these alike, and spares a first publication the import of Arrow's functions.
        return column.to_numpy().astype(np.float64, copy=False)
    return column.cast(pa.float64(), safe=False).to_numpy()


def _text_column(column: pa.ChunkedArray, nulls: int) -> Column:
    """Numbers among texts: each distinct text is parsed once."""
    encoded = column.combine_chunks().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    parsed = [parse_number(text) for text in texts]
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    readable = np.array([number is not None for number in parsed] + [False])[codes]
    bad = np.flatnonzero((codes >= 0) & ~readable)
    numbers = np.array([np.nan if number is None else number for number in parsed] + [np.nan])
    rows = np.flatnonzero(readable)
    shown = tuple((int(row), texts[codes[row]]) for row in bad[:SHOWN])
    multiline = any("\n" in text or "\r" in text for text in texts)
    return Column(numbers[codes[rows]], rows.astype(np.int64), shown, len(bad), nulls, multiline)


def _check_quotes(path: Path, delimiter: str) -> None:
    """Refuse a quote that is never closed: Arrow reads the rest of the file as its text."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        before = 0
        try:
            for _ in reader:
                before = reader.line_num
        except csv.Error as error:
            raise DataFault(
                f"{path.name}, line {before + 1}: a quote is never closed ({error}).", "Close it, or remove the line."
            ) from None


def _csv_line(path: Path, delimiter: str, row: int) -> str:
    """Line of a data row: blank lines and quoted line ends make it differ from ``row + 2``."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.reader(file, delimiter=delimiter)
        seen, before = -1, 0
        try:
            for cells in reader:
                seen += bool(cells)
                if seen == row + 1 and cells:
                    return f"line {before + 1}"
                before = reader.line_num
        except csv.Error:  # a field beyond the reader's limit: the number of the row has to do
            pass
    return f"row {row + 1}"


def _short(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"
