"""A metric series: written once as packed columns, then asked for values and buckets.

Points are kept in ascending steps; points that share a step (a restart logs it twice) are all
kept, in the order of their file. Nothing is averaged away: NaN and infinities are points too.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from portal.errors import BadRequest, DataFault, FileMissing
from portal.metrics.buckets import KINDS, NONE, Buckets
from portal.metrics.levels import FIRST_BLOCK, Blocks, Floats, Ints, Places, summarise
from portal.metrics.packed import Kinds, PackedGroup, PackedSeries, open_group, write_group

_LOCATION = re.compile(r"^((?:[A-Za-z0-9@+=_-][A-Za-z0-9@+=._-]*/)+g\d+\.series)#(\d+)$")
_FAR = 2**62
"""Beyond any step; larger requests are the same request."""


@dataclass(frozen=True)
class SeriesData:
    """One series as it was read: ``steps`` int64[n] ascending (repeats allowed), ``values`` float64[n]."""

    name: str
    group: str
    unit: str
    reduction: str
    description: str
    column: str
    source: str
    x_kind: str
    """What the source's x axis counted (``step``, ``tokens``, ``samples``); ``steps`` are steps in any case."""
    steps: Ints
    values: Floats


@dataclass(frozen=True)
class StoredSeries:
    """What the catalog keeps of a stored series: the columns of its MetricSeries table."""

    name: str
    group: str
    unit: str
    reduction: str
    description: str
    column: str
    source: str
    x_kind: str
    location: str
    points: int
    first_step: int | None
    last_step: int | None
    nan_count: int
    inf_count: int


class Window(NamedTuple):
    """Points at places ``low`` up to ``high``, ``block`` of them in a bucket; with 0 each stands for itself."""

    low: int
    high: int
    block: int


class Series:
    """One stored series, memory-mapped; arrays it hands out are read-only views of the file."""

    def __init__(self, group: PackedGroup, index: int) -> None:
        self.group, self.index = group, index
        self._packed = group.series[index]
        self.steps: Ints = group.steps
        self.values: Floats = self._packed.values

    def __len__(self) -> int:
        return len(self.steps)

    def value_at(self, step: int) -> float | None:
        """Value logged at exactly ``step`` (may be NaN or infinite), or None.

        Of several points at the step it is the one logged last: after a restart that is the update
        the released model contains.
        """
        found = self.values_at(step)
        return found[-1] if found else None

    def values_at(self, step: int) -> list[float]:
        """Every value logged at exactly ``step``, in the order of the file."""
        low, high = self._places(step, step)
        found: list[float] = self.values[low:high].tolist()
        return found

    def query(self, first: int | None = None, last: int | None = None, buckets: int = 1000) -> Buckets:
        """Points from step ``first`` to ``last`` (both included, None: no bound) in at most ``buckets`` buckets.

        The points themselves when there are no more than ``buckets``; otherwise at least half as many buckets
        as asked for. Buckets hold equal numbers of points and begin at the same places whatever the range, so
        panning does not change them; only the two at the ends are cut to the range. Raises BadRequest for ``buckets`` below 1.
        """
        window = self.window(first, last, buckets)
        return self.part(*window) if window.block else self._raw(window.low, window.high)

    def window(self, first: int | None, last: int | None, buckets: int) -> Window:
        """Which points such a question is about, and how many of them share a bucket."""
        if buckets < 1:
            raise BadRequest(f"buckets is {buckets}; at least 1 is needed.", "Ask for buckets=1000, for instance.")
        low, high = self._places(first, last)
        return Window(low, high, 0 if high - low <= buckets else _block_size(low, high, buckets))

    def part(self, low: int, high: int, block: int) -> Buckets:
        """The points at places ``low`` up to ``high`` in buckets of ``block``."""
        if block < FIRST_BLOCK:
            return self._bucketed(low, high, block, summarise(self.values[low:high], low, block))
        return self._bucketed(low, high, block, self._from_level(low, high, block))

    def nonfinite(self, low: int, high: int) -> tuple[Ints, Kinds]:
        """Steps and kinds of the points at places ``low`` up to ``high`` that are not finite."""
        odd, kinds = self._odd(low, high)
        return self.steps[odd], kinds

    def _places(self, first: int | None, last: int | None) -> tuple[int, int]:
        steps = self.steps
        low = 0 if first is None else int(steps.searchsorted(max(-_FAR, min(first, _FAR)), "left"))
        high = len(steps) if last is None else int(steps.searchsorted(max(-_FAR, min(last, _FAR)), "right"))
        return low, max(low, high)

    def _raw(self, low: int, high: int) -> Buckets:
        steps, values = self.steps[low:high], self.values[low:high]
        finite = np.isfinite(values)
        nan, above, below = np.isnan(values), values == np.inf, values == -np.inf
        clean = values if finite.all() else np.where(finite, values, np.nan)
        place = steps if clean is values else np.where(finite, steps, NONE)
        return Buckets(
            raw=True,
            points=len(steps),
            first_step=steps,
            last_step=steps,
            min=clean,
            max=clean,
            mean=clean,
            last=clean,
            min_step=place,
            max_step=place,
            finite=finite.astype(np.int64),
            nan=nan.astype(np.int64),
            inf=(above | below).astype(np.int64),
            positive_inf=above.astype(np.int64),
            negative_inf=below.astype(np.int64),
            nonfinite_steps=steps[~finite],
            nonfinite_kinds=self._odd(low, high)[1],
        )

    def _bucketed(self, low: int, high: int, block: int, blocks: Blocks) -> Buckets:
        edges, first_step, last_step, finite, none = _edges(self.group, low, high, block)
        steps = self.steps
        min_step, max_step = steps[blocks.argmin], steps[blocks.argmax]
        nan = above = below = inf = none
        odd, kinds = self._odd(low, high)
        if odd.size:
            nan, above, below = _count_kinds(odd, kinds, edges)
            inf = above + below
            finite = finite - nan - inf
            min_step[finite == 0] = max_step[finite == 0] = NONE
        return Buckets(
            raw=False,
            points=high - low,
            first_step=first_step,
            last_step=last_step,
            min=blocks.min,
            max=blocks.max,
            mean=blocks.mean,
            last=blocks.last,
            min_step=min_step,
            max_step=max_step,
            finite=finite,
            nan=nan,
            inf=inf,
            positive_inf=above,
            negative_inf=below,
            nonfinite_steps=steps[odd],
            nonfinite_kinds=kinds,
        )

    def _from_level(self, low: int, high: int, block: int) -> Blocks:
        """Stored blocks of one level; the blocks that the range cuts are summarised from the raw values."""
        begin, end = -(-low // block), high // block
        if high == len(self.steps):
            end = -(-high // block)
        parts = [] if low % block == 0 else [summarise(self.values[low : min(begin * block, high)], low, block)]
        if begin < end:
            start = self.group.levels[(block // FIRST_BLOCK).bit_length() - 1][2]
            parts.append(_slice(self._packed, start + begin, start + end))
        if end * block < high and end >= begin:
            parts.append(summarise(self.values[end * block : high], end * block, block))
        return parts[0] if len(parts) == 1 else _join(parts)

    def _odd(self, low: int, high: int) -> tuple[Places, Kinds]:
        """Places and kinds of the points in the range that are not finite."""
        odd, kinds = self._packed.odd, self._packed.kinds
        if not odd.size:
            return odd, kinds
        cut = slice(*odd.searchsorted((low, high)))
        return odd[cut], kinds[cut]


def write_series(root: Path, release_key: str, series: list[SeriesData]) -> list[StoredSeries]:
    """Store ``series`` below ``root / release_key`` and return their rows for the catalog, in the same order.

    Series logged at the same steps share one file. Writing the same key again replaces its files.
    Raises DataFault when names repeat, or steps and values do not fit each other.
    """
    seen: set[str] = set()
    for one in series:
        _check(one, seen)
    groups = _groups(series)
    stored: dict[int, StoredSeries] = {}
    for number, members in enumerate(groups):
        location = f"{release_key}/g{number}.series"
        if not _LOCATION.match(f"{location}#0"):
            raise BadRequest(
                f"{release_key!r} cannot name a folder of series.", "Use letters, digits and ._-+=@, split by slashes."
            )
        columns = [np.asarray(series[i].values, dtype=np.float64) for i in members]
        counts = write_group(root / location, np.asarray(series[members[0]].steps, dtype=np.int64), columns)
        for place, (index, (nan, inf)) in enumerate(zip(members, counts, strict=True)):
            stored[index] = _stored(series[index], f"{location}#{place}", nan, inf)
    return [stored[index] for index in range(len(series))]


def open_series(root: Path, location: str) -> Series:
    """The series that `write_series` stored as ``location``; its file is mapped once and kept.

    Raises FileMissing when nothing is stored there, DataFault when the file is damaged.
    """
    match = _LOCATION.match(location)
    if match is None:
        raise FileMissing(f"{location!r} does not name stored numbers.", "Publish the run again.")
    group = open_group(f"{root}/{match[1]}")
    if int(match[2]) >= len(group.series):
        raise FileMissing(f"{location!r} lies beyond the series of its file.", "Publish the run again.")
    return Series(group, int(match[2]))


def _groups(series: list[SeriesData]) -> list[list[int]]:
    """Indexes of the series by equal steps."""
    digests: dict[int, bytes] = {}
    groups: dict[bytes, list[int]] = {}
    for index, one in enumerate(series):
        if id(one.steps) not in digests:
            digests[id(one.steps)] = hashlib.blake2b(np.ascontiguousarray(one.steps).data, digest_size=16).digest()
        groups.setdefault(digests[id(one.steps)], []).append(index)
    return list(groups.values())


def _check(one: SeriesData, seen: set[str]) -> None:
    if one.name in seen:
        raise DataFault(f"Two series are named {one.name!r}.", "Give each its own name in the manifest's series.")
    seen.add(one.name)
    if len(one.steps) != len(one.values):
        raise DataFault(f"Series {one.name!r} has {len(one.steps)} steps but {len(one.values)} values.")
    if len(one.steps) and bool((one.steps[1:] < one.steps[:-1]).any()):
        raise DataFault(f"The steps of series {one.name!r} are not in ascending order.", "Sort its points by step.")


def _stored(one: SeriesData, location: str, nan: int, inf: int) -> StoredSeries:
    return StoredSeries(
        name=one.name,
        group=one.group,
        unit=one.unit,
        reduction=one.reduction,
        description=one.description,
        column=one.column,
        source=one.source,
        x_kind=one.x_kind,
        location=location,
        points=len(one.steps),
        first_step=int(one.steps[0]) if len(one.steps) else None,
        last_step=int(one.steps[-1]) if len(one.steps) else None,
        nan_count=nan,
        inf_count=inf,
    )


def _block_size(low: int, high: int, buckets: int) -> int:
    """Points per bucket: the smallest size that needs no more than ``buckets``, a power of two from 8 on."""
    block = -(-(high - low) // buckets)
    if block > FIRST_BLOCK:
        block = 1 << (block - 1).bit_length()
    while (high - 1) // block - low // block >= buckets:
        block = block + 1 if block < FIRST_BLOCK else block * 2
    return block


@lru_cache(maxsize=64)
def _edges(group: PackedGroup, low: int, high: int, block: int) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """What every series of a group shares: where buckets begin and end by place and by step, their sizes, and zeros."""
    edges = np.arange(low // block, (high - 1) // block + 2) * block
    edges[0], edges[-1] = low, high
    sizes = np.diff(edges)
    found = edges, group.steps[edges[:-1]], group.steps[edges[1:] - 1], sizes, np.zeros_like(sizes)
    for array in found:
        array.flags.writeable = False
    return found


def _count_kinds(odd: Places, kinds: Kinds, edges: Ints) -> Ints:
    """How many points of each kind lie in each bucket: one row a kind."""
    buckets = len(edges) - 1
    places = edges.searchsorted(odd, "right") - 1 + kinds.astype(np.int64) * buckets
    return np.bincount(places, minlength=len(KINDS) * buckets).reshape(len(KINDS), buckets)


def _slice(packed: PackedSeries, start: int, end: int) -> Blocks:
    part = slice(start, end)
    p = packed
    return Blocks(p.min[part], p.max[part], p.mean[part], p.last[part], p.argmin[part], p.argmax[part])


def _join(parts: list[Blocks]) -> Blocks:
    return Blocks(*(np.concatenate([getattr(part, name) for part in parts]) for name in Blocks.__dataclass_fields__))
