"""What every format is read into: columns of numbers by row, and the notes taken on the way.

A cell is a number (NaN and infinities are numbers), absent (empty, null) or unreadable. The
three are never mixed: absent cells make no point, NaN cells make one, unreadable ones are noted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from portal.metrics.levels import Floats, Ints
from portal.metrics.series import SeriesData

MAX_STEP = 2**53 - 1
SHOWN = 5
"""Examples given in a note; the note states the full count beside them."""

StepsOf = Callable[[Ints], Ints]
"""From values of the source's x (tokens or samples, int64) to steps; below 0 where no step belongs to it."""


@dataclass(frozen=True)
class IngestNote:
    """Something a reader of the numbers should know, e.g. that steps repeat."""

    code: str
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    step: int | None = None


@dataclass(frozen=True)
class Ingested:
    """The series of one file."""

    series: list[SeriesData]
    notes: list[IngestNote]


@dataclass(frozen=True)
class Column:
    """Readable numbers of one column."""

    values: Floats
    """float64, one per readable cell."""
    rows: Ints | None
    """0-based row of each value; None when every row has one."""
    unreadable: tuple[tuple[int, str], ...] = ()
    """First few cells that are neither numbers nor absent: row, text."""
    unreadable_count: int = 0
    nulls: int = 0
    """Cells written as null, where the format tells null from empty."""
    multiline: bool = False
    """Some cell holds a line end: a text in quotes, or a quote that was never closed."""


@dataclass(frozen=True)
class Table:
    """A file as columns."""

    name: str
    """File name, for messages."""
    rows: int
    columns: dict[str, Column]
    place: Callable[[int], str]
    """Where a row stands in the file, e.g. ``line 17``."""


def parse_number(text: str) -> float | None:
    """A number as loggers spell it (``1e-3``, ``NaN``, ``-Infinity``, ``inf``), else None."""
    try:
        return None if "_" in text else float(text)  # Python alone reads 1_000 as a number
    except ValueError:
        return None
