"""Min-max levels of a series: every 8, 16, 32 ... points summarised once, when the series is written.

A level cuts the points, by their place in the series, into blocks of equal size. Each block keeps
the extremes of its finite values with the place of each, their mean and the last of them.
NaN and infinities are not in these numbers; they are kept beside them (see ``packed.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

FIRST_BLOCK = 8
"""Points per block of the finest level; below it, blocks are made from the raw values when asked for."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.uint32]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Blocks:
    """Summaries of consecutive blocks; all arrays have one entry per block.

    A block without a finite value has NaN in ``min, max, mean, last``; its places mean nothing.
    """

    min: Floats
    max: Floats
    mean: Floats
    last: Floats
    argmin: npt.NDArray[np.unsignedinteger] | Ints
    """Place in the series of the first point that holds ``min``."""
    argmax: npt.NDArray[np.unsignedinteger] | Ints


def level_sizes(points: int) -> list[tuple[int, int]]:
    """``(points per block, blocks)`` of every level of a series of ``points`` points, finest first."""
    sizes = []
    block = FIRST_BLOCK
    while points:
        sizes.append((block, -(-points // block)))
        if block >= points:
            break
        block *= 2
    return sizes


def build_levels(values: Floats) -> list[Blocks]:
    """All levels of ``values`` (float64, any non-finite values), finest first; one pass per level."""
    if not len(values):
        return []
    finite = np.isfinite(values)
    clean = bool(finite.all())
    low = _Tree(_padded(values, None if clean else finite, np.inf), sign=1)
    high = _Tree(_padded(values, None if clean else finite, -np.inf), sign=-1)
    middle = _Means(_padded(values, None if clean else finite, 0.0), None if clean else finite, len(values))
    last = _last_finite(values, None if clean else finite)
    levels = []
    for _block, _count in level_sizes(len(values)):
        empty = middle.counts == 0
        levels.append(
            Blocks(
                min=np.where(empty, np.nan, low.extreme),
                max=np.where(empty, np.nan, high.extreme),
                mean=np.where(empty, np.nan, middle.means),
                last=last,
                argmin=low.places,
                argmax=high.places,
            )
        )
        low.halve()
        high.halve()
        middle.halve()
        last = _halve_last(last)
    return levels


def summarise(values: Floats, offset: int, block: int) -> Blocks:
    """Blocks over raw ``values`` whose first element has place ``offset``; bounds lie at multiples of ``block``."""
    lead = offset % block
    rows = -(-(lead + len(values)) // block)
    if rows == 1:
        return _summarise_one(values, offset)
    padded = values
    if rows * block != len(values):
        padded = np.full(rows * block, np.nan)
        padded[lead : lead + len(values)] = values
    starts = np.arange(0, rows * block, block)
    finite = np.isfinite(padded)
    if finite.all():
        low = high = mean = padded.reshape(rows, block)
        counts, ends = np.full(rows, block), starts + (block - 1)
    else:
        grid = finite.reshape(rows, block)
        counts = _row_sums(grid.view(np.uint8).astype(np.int64))
        ends = starts + (block - 1) - grid[:, ::-1].argmax(axis=1)
        low, high, mean = (np.where(finite, padded, filler).reshape(rows, block) for filler in (np.inf, -np.inf, 0.0))
    lowest, highest = starts + low.argmin(axis=1), starts + high.argmax(axis=1)
    # Dividing before adding keeps the mean of huge values finite.
    means = _row_sums(mean / np.maximum(counts, 1)[:, None])
    columns = [padded[lowest], padded[highest], means, padded[ends]]
    if not counts.all():
        columns = [np.where(counts, column, np.nan) for column in columns]
    return Blocks(columns[0], columns[1], columns[2], columns[3], lowest + (offset - lead), highest + (offset - lead))


def _summarise_one(values: Floats, offset: int) -> Blocks:
    """A single block: every zoom cuts two of each series, and this takes a third of the time of the general way."""
    finite = np.isfinite(values)
    places = None if finite.all() else np.flatnonzero(finite)
    found = values if places is None else values[places]
    if not len(found):
        nothing, place = np.full(1, np.nan), np.array([offset])
        return Blocks(nothing, nothing, nothing, nothing, place, place)
    extremes = [int(found.argmin()), int(found.argmax())]
    # Dividing before adding keeps the mean of huge values finite.
    mean = np.add.reduce(found / len(found))
    numbers = np.array([found[extremes[0]], found[extremes[1]], mean, found[-1]])
    at = np.array(extremes if places is None else places[extremes]) + offset
    return Blocks(numbers[0:1], numbers[1:2], numbers[2:3], numbers[3:4], at[0:1], at[1:2])


def _row_sums(grid: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sum of each row; column by column where rows are short, which numpy adds up several times faster."""
    if grid.shape[1] > FIRST_BLOCK:
        return np.asarray(grid.sum(axis=1))
    total = grid[:, 0].copy()
    for column in range(1, grid.shape[1]):
        total += grid[:, column]
    return total


class _Tree:
    """Extremes and their places, block size doubled by ``halve``."""

    def __init__(self, padded: Floats, sign: int) -> None:
        self._better = np.less if sign > 0 else np.greater
        self._pick = np.minimum if sign > 0 else np.maximum
        self._worst = sign * np.inf
        extreme, step = padded, np.uint8(1)
        offset: npt.NDArray[np.uint8] | None = None
        while step < FIRST_BLOCK:
            left, right = extreme[0::2], extreme[1::2]
            taken = self._better(right, left)
            moved = taken.view(np.uint8) * step
            offset = moved if offset is None else np.where(taken, offset[1::2], offset[0::2]) + moved
            extreme = self._pick(left, right)
            step = np.uint8(step * 2)
        assert offset is not None  # noqa: S101 - FIRST_BLOCK is above 1
        self.extreme: Floats = extreme
        self.places: Places = np.arange(0, len(padded), FIRST_BLOCK, dtype=np.uint32) + offset

    def halve(self) -> None:
        """Join neighbours; on equal values the earlier place stays."""
        extreme, places = _even(self.extreme, self._worst), _even(self.places, 0)
        left, right = extreme[0::2], extreme[1::2]
        self.places = np.where(self._better(right, left), places[1::2], places[0::2])
        self.extreme = self._pick(left, right)


class _Means:
    """Means of the finite values with their counts, joined by weight so that nothing overflows."""

    def __init__(self, padded: Floats, finite: npt.NDArray[np.bool_] | None, points: int) -> None:
        blocks = len(padded) // FIRST_BLOCK
        if finite is None:
            self.counts: Floats = np.full(blocks, float(FIRST_BLOCK))
            self.counts[-1] = points - (blocks - 1) * FIRST_BLOCK
        else:
            flags = np.zeros(len(padded), dtype=np.uint8)
            flags[:points] = finite
            self.counts = flags.reshape(-1, FIRST_BLOCK).sum(axis=1).astype(np.float64)
        total = padded * (1.0 / FIRST_BLOCK)
        while len(total) > blocks:
            total = total[0::2] + total[1::2]
        self.means: Floats = total * (FIRST_BLOCK / np.maximum(self.counts, 1.0))

    def halve(self) -> None:
        """Join neighbours, each weighted by its share of the points."""
        counts, means = _even(self.counts, 0.0), _even(self.means, 0.0)
        self.counts = counts[0::2] + counts[1::2]
        whole = np.maximum(self.counts, 1.0)
        self.means = means[0::2] * (counts[0::2] / whole) + means[1::2] * (counts[1::2] / whole)


def _padded(values: Floats, finite: npt.NDArray[np.bool_] | None, filler: float) -> Floats:
    """``values`` with ``filler`` in place of non-finite ones and up to a multiple of the first block."""
    size = -(-len(values) // FIRST_BLOCK) * FIRST_BLOCK
    if finite is None and size == len(values):
        return values
    padded = np.full(size, filler)
    if finite is None:
        padded[: len(values)] = values
    else:
        np.copyto(padded[: len(values)], values, where=finite)
    return padded


def _last_finite(values: Floats, finite: npt.NDArray[np.bool_] | None) -> Floats:
    """Last finite value of each block of the finest level."""
    blocks = -(-len(values) // FIRST_BLOCK)
    ends = np.minimum(np.arange(1, blocks + 1) * FIRST_BLOCK, len(values)) - 1
    found: Floats = values[ends]
    if finite is None:
        return found
    seen = np.maximum.accumulate(np.where(finite, np.arange(len(values)), -1))[ends]
    return np.where(seen >= ends - ends % FIRST_BLOCK, values[seen], np.nan)


def _halve_last(last: Floats) -> Floats:
    pairs = _even(last, np.nan)
    last_of_pair: Floats = np.where(np.isnan(pairs[1::2]), pairs[0::2], pairs[1::2])
    return last_of_pair


def _even(array: npt.NDArray[Number], filler: float) -> npt.NDArray[Number]:
    """An even number of entries, so that neighbours can be joined."""
    if len(array) % 2 == 0:
        return array
    return np.concatenate((array, np.array([filler], dtype=array.dtype)))
