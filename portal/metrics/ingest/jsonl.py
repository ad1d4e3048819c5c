"""JSON lines: one object per line, nested objects read as ``outer/inner``, into columns of numbers."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from portal.errors import DataFault, TooLarge
from portal.metrics.ingest.table import SHOWN, Column, Table, parse_number

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
        self.rows = array("q")
        self.values = array("d")
        self.bad: list[tuple[int, str]] = []
        self.bad_count = 0
        self.nulls = 0

    def refuse(self, row: int, value: object) -> None:
        self.bad_count += 1
        if len(self.bad) < SHOWN:
            self.bad.append((row, str(value)[:100]))

    def column(self, table_rows: int) -> Column:
        rows, values = np.frombuffer(self.rows, np.int64), np.frombuffer(self.values, np.float64)
        # {"a": {"b": 1}, "a/b": 2} gives one column two values in a row: the first stays.
        second = np.flatnonzero(rows[1:] == rows[:-1]) + 1
        for place in second:
            self.refuse(int(rows[place]), f"{values[place]:g} (a second value)")
        rows, values = np.delete(rows, second), np.delete(values, second)
        dense = None if len(rows) == table_rows else rows
        return Column(values, dense, tuple(self.bad), self.bad_count, self.nulls)


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
        name = prefix + key if prefix else key
        kind = type(value)
        if kind is dict:
            _collect(cells, f"{name}/", value, row)
            continue
        cell = cells.get(name)
        if cell is None:
            cell = cells[name] = _Cells()
        if kind is float:  # nearly every cell: kept free of calls
            cell.rows.append(row)
            cell.values.append(value)
        elif value is None:
            cell.nulls += 1
        elif (number := _number(value)) is None:
            cell.refuse(row, value)
        else:
            cell.rows.append(row)
            cell.values.append(number)


def _number(value: object) -> float | None:
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return None
    return parse_number(value) if isinstance(value, str) else None
