"""Buckets ready to be sent: the columns of a level written page by page from the second question on, and sliced then.

A bucket that lies whole inside a range is the same whatever the range, so what is written of it is too: as JSON
text, or as the bytes that base64 carries. Only the buckets that a range cuts are written anew.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

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
SHARED = frozenset(COLUMNS) - frozenset(VALUES) - OF_EXTREMES

PAGE = 1024
"""Buckets of one page: a question of 1,000 touches at most two."""
MAX_BYTES = 64 << 20
"""Of all kept pages; one takes 70 kB packed, 190 kB as text."""
MAX_MET = 4096
"""Pages remembered as having been asked for."""
INT32 = 2**31 - 1

MAX_RECENT = 64

_recent_lock = threading.Lock()
_recent: dict[tuple[int, bool], tuple[npt.NDArray[Any], bytes]] = {}
"""Columns that several series may share, by the identity of their arrays."""
_DTYPES = {name: "<f8" if name in VALUES else "<i4" for name in COLUMNS}
_PACKERS = [Struct("<d" if name in VALUES else "<i").pack for name in COLUMNS]


Piece = bytes | memoryview
PageKey = tuple[PackedGroup, int, int, int, bool]
"""Group and index of the series, points of a block, number of the page, and whether it is packed."""


class Column:
    """One column of a page of ``count`` entries: ``width`` bytes each, or with 0 text joined by commas."""

    __slots__ = ("_count", "_data", "_ends", "_width")

    def __init__(self, data: bytes, count: int, width: int) -> None:
        self._data, self._count, self._width = memoryview(data), count, width
        self._ends: memoryview | None = None

    @property
    def nbytes(self) -> int:
        """Bytes kept, with the places of the commas."""
        return self._data.nbytes + (0 if self._width else 4 * self._count)

    def cut(self, first: int, last: int) -> memoryview:
        """Entries ``first`` up to ``last``, not copied."""
        if self._width:
            return self._data[first * self._width : last * self._width]
        if first == 0 and last == self._count:
            return self._data
        if self._ends is None:
            self._ends = _ends(self._data)
        return self._data[self._ends[first - 1] + 1 if first else 0 : self._ends[last - 1]]


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
        self._kept: OrderedDict[PageKey, tuple[int, list[Column]]] = OrderedDict()
        self._met: set[PageKey] = set()
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
        size = sum(column.nbytes for column in found)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = size, found
                self.bytes += size
            while self.bytes > self.max_bytes and len(self._kept) > 1:
                self.bytes -= self._kept.popitem(last=False)[1][0]
        return found

    def pays(self, series: Series, block: int, numbers: range, packed: bool) -> bool:
        """Whether all these pages are kept, or were asked for before: writing one costs more than a single answer."""
        keys = [(series.group, series.index, block, number, packed) for number in numbers]
        with self._lock:
            fresh = [key for key in keys if key not in self._kept and key not in self._met]
            if len(self._met) + len(fresh) > MAX_MET:
                self._met.clear()
            self._met.update(fresh)
        return not fresh

    def clear(self) -> None:
        """Forget all pages, and that they were asked for."""
        with self._lock:
            self._kept.clear()
            self._met.clear()
            self.bytes = 0


shelf = PageShelf(MAX_BYTES)
"""The pages of this process."""


def written_buckets(series: Series, window: Window, packed: bool) -> WrittenBuckets | None:
    """The buckets of a window; None where they are not those of a stored level, or would not pay (yet).

    Integers are packed in 32 bit, so None too where the run has steps beyond.
    """
    low, high, block = window
    steps = series.steps
    if block < FIRST_BLOCK or max(abs(int(steps[0])), abs(int(steps[-1])), len(steps)) > INT32:
        return None
    begin, end = -(-low // block), high // block
    if high == len(steps):
        end = -(-high // block)
    numbers = range(begin // PAGE, (end - 1) // PAGE + 1)
    if begin >= end or not shelf.pays(series, block, numbers, packed):
        return None
    parts: list[Sequence[Piece]] = (
        [] if low == begin * block else [_write_cut(series, low, begin * block, block, packed)]
    )
    for number in numbers:
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
        return [Column(data, len(part), len(data) // len(part)) for data in _packed(part)]
    return [Column(text, len(part), 0) for text in _texts(part)]


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
        found.append(_once(array, True) if name in SHARED else array.astype(_DTYPES[name], copy=False).tobytes())
    return found


def _texts(part: Buckets) -> list[bytes]:
    absent = None if bool(part.finite.all()) else part.finite == 0
    found = []
    for name in COLUMNS:
        array: npt.NDArray[Any] = getattr(part, name)
        if name in SHARED:
            found.append(_once(array, False))
        else:
            found.append(_dump(json_column(array, absent if name in OF_EXTREMES else None)))
    return found


def _once(array: npt.NDArray[Any], packed: bool) -> bytes:
    """Steps or counts as written: series logged at the same steps share these arrays."""
    key = (id(array), packed)
    kept = _recent.get(key)
    if kept is None:
        # The array is kept with it, so that no other array can take its id.
        kept = array, array.astype("<i4").tobytes() if packed else _dump(array)
        with _recent_lock:
            _recent[key] = kept
            if len(_recent) > MAX_RECENT:
                del _recent[next(iter(_recent))]
    return kept[1]


def _dump(column: Any) -> bytes:
    return orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def _ends(text: memoryview) -> memoryview:
    """Where each of the numbers ends: at its comma, the last at the end."""
    commas = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(","))
    return np.append(commas, len(text)).astype(np.uint32).data


def json_column(array: npt.NDArray[Any], absent: npt.NDArray[np.bool_] | None) -> Any:
    """A column as orjson writes it: numbers that are not finite as null, and null where ``absent``."""
    if absent is not None:
        return [None if missing else number for number, missing in zip(array.tolist(), absent.tolist(), strict=True)]
    return np.ascontiguousarray(array)
