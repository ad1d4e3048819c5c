"""Buckets ready to be sent: the columns of a level written once, page by page, and sliced for every question after that.

A bucket that lies whole inside a range is the same whatever the range, so what is written of it is too: as JSON
text, or as the bytes that base64 carries. Only the buckets that a range cuts are written anew.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from portal.metrics.buckets import Buckets
from portal.metrics.levels import FIRST_BLOCK, Ints
from portal.metrics.packed import Kinds, PackedGroup
from portal.metrics.series import Series, Window

STEPS = ("first_step", "last_step", "min_step", "max_step")
VALUES = ("min", "max", "mean", "last")
COUNTS = ("finite", "nan", "inf", "positive_inf", "negative_inf")
COLUMNS = STEPS + VALUES + COUNTS
OF_EXTREMES = frozenset(("min_step", "max_step", "min_x", "max_x"))

PAGE = 1024
"""Buckets of one page: a question of 1,000 touches at most two."""
MAX_BYTES = 64 << 20
"""Of all kept pages; one takes 70 kB packed, 190 kB as text."""
INT32 = 2**31 - 1

_PACKERS = [Struct("<d" if name in VALUES else "<i").pack for name in COLUMNS]


Piece = bytes | memoryview


class Column(NamedTuple):
    """One column of a page. Text is joined by commas, and ``ends`` tells where each entry ends; packed entries
    are ``width`` bytes each."""

    data: memoryview
    width: int
    ends: memoryview | None

    def cut(self, first: int, last: int) -> memoryview:
        """Entries ``first`` up to ``last``, not copied."""
        if self.ends is None:
            return self.data[first * self.width : last * self.width]
        return self.data[self.ends[first - 1] + 1 if first else 0 : self.ends[last - 1]]


@dataclass(frozen=True)
class WrittenBuckets:
    """Buckets of one series as `Buckets` holds them, each column ready but in pieces: JSON numbers with commas between
    them, or bytes."""

    points: int
    columns: list[Sequence[Piece]]
    """By the order of `COLUMNS`."""
    nonfinite_steps: Ints
    nonfinite_kinds: Kinds


class PageShelf:
    """Written pages, bounded in bytes; the one used longest ago goes first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._kept: OrderedDict[tuple[PackedGroup, int, int, int, bool], tuple[int, list[Column]]] = OrderedDict()
        self._lock = threading.Lock()

    def page(self, series: Series, block: int, number: int, packed: bool) -> list[Column]:
        """Buckets ``number * PAGE`` and on, of ``block`` points each, by the order of `COLUMNS`."""
        key = (series.group, series.index, block, number, packed)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept[1]
        found = _write_page(series, block, number, packed)
        size = sum(len(column.data) + (column.ends.nbytes if column.ends is not None else 0) for column in found)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = size, found
                self.bytes += size
            while self.bytes > self.max_bytes and len(self._kept) > 1:
                self.bytes -= self._kept.popitem(last=False)[1][0]
        return found

    def clear(self) -> None:
        """Forget all pages."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0


shelf = PageShelf(MAX_BYTES)
"""The pages of this process."""


def written_buckets(series: Series, window: Window, packed: bool) -> WrittenBuckets | None:
    """The buckets of a window; None where they are not those of a stored level, or would not pay.

    Integers are packed in 32 bit, so None too where the run has steps beyond.
    """
    low, high, block = window
    steps = series.steps
    if block < FIRST_BLOCK or max(abs(int(steps[0])), abs(int(steps[-1])), len(steps)) > INT32:
        return None
    begin, end = -(-low // block), high // block
    if high == len(steps):
        end = -(-high // block)
    if begin >= end:
        return None
    parts: list[Sequence[Piece]] = (
        [] if low == begin * block else [_write_cut(series, low, begin * block, block, packed)]
    )
    for number in range(begin // PAGE, (end - 1) // PAGE + 1):
        first, last = max(begin - number * PAGE, 0), min(end - number * PAGE, PAGE)
        parts.append([column.cut(first, last) for column in shelf.page(series, block, number, packed)])
    if end * block < high:
        parts.append(_write_cut(series, end * block, high, block, packed))
    if not packed:
        comma = [b","] * len(COLUMNS)
        parts = [parts[0], *(part for following in parts[1:] for part in (comma, following))]
    return WrittenBuckets(high - low, list(zip(*parts, strict=True)), *series.nonfinite(low, high))


def _write_page(series: Series, block: int, number: int, packed: bool) -> list[Column]:
    low = number * PAGE * block
    part = series.part(low, min(low + PAGE * block, len(series)), block)
    if packed:
        return [Column(memoryview(data), len(data) // len(part), None) for data in _packed(part)]
    return [Column(memoryview(text), 0, _ends(text)) for text in _texts(part)]


def _write_cut(series: Series, low: int, high: int, block: int, packed: bool) -> list[bytes]:
    """The one bucket that a range cuts: all of its numbers at once, as there are few."""
    part = series.part(low, high, block)
    numbers = [getattr(part, name).item() for name in COLUMNS]
    if packed:
        return [pack(number) for pack, number in zip(_PACKERS, numbers, strict=True)]
    if not part.finite[0]:
        numbers = [None if name in OF_EXTREMES else number for name, number in zip(COLUMNS, numbers, strict=True)]
    return orjson.dumps(numbers)[1:-1].split(b",")


def _packed(part: Buckets) -> list[bytes]:
    found = []
    for name in COLUMNS:
        array: npt.NDArray[Any] = getattr(part, name)
        found.append(array.astype("<i4" if array.dtype.kind == "i" else "<f8", copy=False).tobytes())
    return found


def _texts(part: Buckets) -> list[bytes]:
    absent = None if bool(part.finite.all()) else part.finite == 0
    found = []
    for name in COLUMNS:
        column = json_column(getattr(part, name), absent if name in OF_EXTREMES else None)
        found.append(orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
    return found


def _ends(text: bytes) -> memoryview:
    """Where each of the numbers ends: at its comma, the last at the end."""
    commas = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(","))
    return np.append(commas, len(text)).astype(np.uint32).data


def json_column(array: npt.NDArray[Any], absent: npt.NDArray[np.bool_] | None) -> Any:
    """A column as orjson writes it: numbers that are not finite as null, and null where ``absent``."""
    if absent is not None:
        return [None if missing else number for number, missing in zip(array.tolist(), absent.tolist(), strict=True)]
    return np.ascontiguousarray(array)
