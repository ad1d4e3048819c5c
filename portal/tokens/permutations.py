"""The permutations that trainers drew: named generator, seed and draw -> row numbers, kept in bounded memory.

For one-dimensional data ``Generator.shuffle(arange(n, uint32))`` (as OLMo draws its order),
``Generator.permutation(n)`` (as `datasets` does) and, for the legacy generator,
``RandomState.permutation(n)`` (as Amber's trainer does) are one and the same sequence of swaps,
whatever the integer width; so each generator needs one method only.
"""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from typing import Protocol

import numpy as np
import numpy.typing as npt

from portal.errors import OrderUnknown

Entries = npt.NDArray[np.uint32]

MAX_DRAWN = {"numpy-RandomState": 1 << 27, "numpy-PCG64": 1 << 27, "python-random": 1 << 22}
"""Entries drawn in all (length x draws) before the portal declines: about 5 s of one core."""
MAX_ENTRIES = {"numpy-RandomState": 1 << 25, "numpy-PCG64": 1 << 25, "python-random": 1 << 22}
"""Longest single permutation; 2**25 entries are 128 MiB."""
CACHE_BYTES = 256 << 20
MAX_SEED = (1 << 32) - 1
"""RandomState takes 32-bit seeds."""


class Shuffler(Protocol):
    """The part of the numpy generators that is used here."""

    def shuffle(self, x: Entries) -> None:
        """Permute in place."""


def permutation(rng: str, seed: int, draw: int, length: int) -> Entries:
    """The ``draw``-th (from 0) permutation of 0..length-1 of a stream, read-only.

    Raises OrderUnknown when drawing it would take more memory or time than is sane at request time.
    """
    _refuse_excess(rng, seed, draw, length)
    return _CACHE.get((rng, seed, draw, length))


class PermutationCache:
    """Permutations by (rng, seed, draw, length), least recently used dropped first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._kept: OrderedDict[tuple[str, int, int, int], Entries] = OrderedDict()
        self._lock = threading.Lock()
        self._drawing = threading.Lock()

    def get(self, key: tuple[str, int, int, int]) -> Entries:
        """The permutation of ``key``, drawn when it is not kept."""
        kept = self._look_up(key)
        if kept is not None:
            return kept
        # One at a time: many requests for one cold chunk would otherwise each draw (and hold) their own.
        with self._drawing:
            kept = self._look_up(key)
            if kept is None:
                kept = draw_permutation(*key)
                self._keep(key, kept)
            return kept

    def _look_up(self, key: tuple[str, int, int, int]) -> Entries | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
            return kept

    def _keep(self, key: tuple[str, int, int, int], entries: Entries) -> None:
        with self._lock:
            self._kept[key] = entries
            self.held_bytes += entries.nbytes
            while self.held_bytes > self.max_bytes and len(self._kept) > 1:
                self.held_bytes -= self._kept.popitem(last=False)[1].nbytes


def draw_permutation(rng: str, seed: int, draw: int, length: int) -> Entries:
    """Draw without a cache; ``draw`` earlier permutations of the same length are drawn and dropped."""
    entries = _draw_python(seed, draw, length) if rng == "python-random" else _draw_numpy(rng, seed, draw, length)
    entries.setflags(write=False)
    return entries


def _draw_numpy(rng: str, seed: int, draw: int, length: int) -> Entries:
    stream: Shuffler = (
        np.random.RandomState(seed) if rng == "numpy-RandomState" else np.random.Generator(np.random.PCG64(seed))
    )
    entries = np.arange(length, dtype=np.uint32)
    stream.shuffle(entries)
    for _ in range(draw):
        entries = np.arange(length, dtype=np.uint32)
        stream.shuffle(entries)
    return entries


def _draw_python(seed: int, draw: int, length: int) -> Entries:
    stream = random.Random(seed)  # noqa: S311 - the generator the trainer used, nothing secret
    numbers = list(range(length))
    stream.shuffle(numbers)
    for _ in range(draw):
        numbers = list(range(length))
        stream.shuffle(numbers)
    return np.array(numbers, dtype=np.uint32)


def _refuse_excess(rng: str, seed: int, draw: int, length: int) -> None:
    if rng not in MAX_ENTRIES:
        raise OrderUnknown(
            f"The data order names the generator {rng!r}, which is not one the portal can draw from.",
            f"Use one of {', '.join(MAX_ENTRIES)}, or publish the order as an index file (kind: index).",
        )
    if rng == "numpy-RandomState" and seed > MAX_SEED:
        raise OrderUnknown(
            f"Seed {seed} is beyond the 32 bits numpy-RandomState takes.", "Correct the seed of this data order."
        )
    drawn = length * (draw + 1)
    if length > MAX_ENTRIES[rng] or drawn > MAX_DRAWN[rng]:
        raise OrderUnknown(
            f"This order is draw {draw} of a permutation of {length:,} rows; drawing {drawn:,} entries of {rng} "
            f"is beyond what is done while you wait (at most {MAX_ENTRIES[rng]:,} rows, {MAX_DRAWN[rng]:,} entries).",
            "Draw it once into an index file (raw u32 or NPY) and declare `kind: index`; then a step is one read.",
        )


_CACHE = PermutationCache(CACHE_BYTES)
