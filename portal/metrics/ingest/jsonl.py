"""JSON lines: one object per line, nested objects read as ``outer/inner``, into columns of numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from portal.errors import DataFault, TooLarge
from portal.metrics.ingest.table import SHOWN, Column, Table, column_of_cells, parse_number

MAX_LINE = 8 << 20
"""Longest line read, in bytes; a line of metrics is a few hundred."""


def read_jsonl(path: Path) -> Table:
    """Read JSON lines; blank lines are skipped.

    Bare ``NaN`` and ``Infinity`` (as Python writes them) and their quoted forms are numbers; null
    is absence. Raises DataFault naming the line that is no JSON object, TooLarge for a line above 8 MiB.
    """
    cells: dict[str, _Cells] = {}
    lines: list[int] = []
    for number, document in _objects(path):
        row = len(lines)
        lines.append(number)
        _collect(cells, "", document, row)
    if not lines:
        raise DataFault(f"{path.name} is empty.", "Publish the file that holds the numbers.")
    columns = {name: cell.column(len(lines)) for name, cell in cells.items()}
    return Table(path.name, len(lines), columns, lambda row: f"line {lines[row]}")


class _Cells:
    """One column as it grows."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.values: list[float] = []
        self.bad: list[tuple[int, str]] = []
        self.bad_count = 0
        self.nulls = 0

    def refuse(self, row: int, value: object) -> None:
        self.bad_count += 1
        if len(self.bad) < SHOWN:
            self.bad.append((row, str(value)[:100]))

    def column(self, rows: int) -> Column:
        plain = column_of_cells(self.rows, self.values, rows)
        return Column(plain.values, plain.rows, tuple(self.bad), self.bad_count, self.nulls)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise TooLarge(
                    f"{path.name}, line {number}: longer than {MAX_LINE >> 20} MiB.", "One line is one step's numbers."
                )
            if line.isspace():
                continue
            document = _parse(path, number, line)
            if not isinstance(document, dict):
                raise DataFault(f"{path.name}, line {number}: holds no JSON object.", "Write one object per line.")
            yield number, document


def _parse(path: Path, number: int, line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        # Python's json writes NaN and Infinity bare and integers of any size; only then is it asked.
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise DataFault(
                f"{path.name}, line {number}: not valid JSON ({error}).", "Correct or remove the line."
            ) from None


def _collect(cells: dict[str, _Cells], prefix: str, document: dict[str, Any], row: int) -> None:
    for key, value in document.items():
        kind = type(value)
        if kind is dict:
            _collect(cells, f"{prefix}{key}/", value, row)
            continue
        name = prefix + key
        cell = cells.get(name)
        if cell is None:
            cell = cells[name] = _Cells()
        if value is None:
            cell.nulls += 1
            continue
        number = _number(value)
        if number is None:
            cell.refuse(row, value)
        elif cell.rows and cell.rows[-1] == row:
            cell.refuse(row, f"{value} (a second value)")
        else:
            cell.rows.append(row)
            cell.values.append(number)


def _number(value: object) -> float | None:
    kind = type(value)
    if kind is float:
        return value  # type: ignore[return-value]
    if kind is int:
        try:
            return float(value)  # type: ignore[arg-type]
        except OverflowError:
            return None
    return parse_number(value) if isinstance(value, str) else None
