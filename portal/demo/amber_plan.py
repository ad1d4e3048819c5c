"""The shape of demo/amber-scale: which steps read which chunk, and what went wrong where."""

from __future__ import annotations

from dataclasses import dataclass

SEED = 11111
"""Of Amber's trainer: the process that begins chunk k shuffles with seed 11111 + k."""

ROW_LENGTH = 65
FULL_ROW_LENGTH = 2049
ROWS_PER_STEP = 4
FULL_ROWS_PER_STEP = 2240
FULL_STEPS = 3
DROPPED_ROWS = 8
"""Rows of every chunk that no step reads; Amber drops 96."""


@dataclass(frozen=True)
class Reading:
    """Steps that read consecutive chunks ``first_chunk``, ``first_chunk + 1``, ..., each for the same number of steps."""

    first_step: int
    last_step: int
    first_chunk: int
    chunks: int
    seed: int
    """Shuffles the first of them; the k-th after it has ``seed + k``."""
    again: bool = False
    """Whether these chunks were read before."""


@dataclass(frozen=True)
class Plan:
    """The run's shape; the defaults are Amber's. Tests take smaller ones."""

    chunks: int = 360
    steps_per_chunk: int = 762
    skipped: tuple[int, ...] = (61, 126, 204, 287)
    """Chunks on which the loss became NaN; four, as in Amber's report, which does not name them."""
    garbled: tuple[int, ...] = (20_011, 58_407, 97_350, 141_222, 188_905, 240_513)
    """Steps whose rows are noise, and whose loss is a spike."""
    overflows: tuple[int, ...] = (33_333, 150_150, 222_222)
    """Steps at which the gradient norm is infinite."""
    copied: tuple[int, int] = (239, 240)
    """The second of these checkpoints holds the weights of the first: a fault on purpose, for the scan to find."""

    @property
    def last_step(self) -> int:
        """As many windows as there are chunks."""
        return self.chunks * self.steps_per_chunk

    @property
    def first_full_step(self) -> int:
        """Of the last three steps, whose batches have Amber's real size."""
        return self.last_step - FULL_STEPS + 1

    @property
    def full_chunk(self) -> int:
        """The last chunk; it holds the rows of the full-size batches."""
        return self.chunks - 1

    @property
    def rows_per_chunk(self) -> int:
        """Of every chunk but the last."""
        return self.steps_per_chunk * ROWS_PER_STEP + DROPPED_ROWS

    def windows(self) -> list[int]:
        """The chunk each window of 762 steps reads: all that are not skipped, then the first ones once more."""
        once = [chunk for chunk in range(self.full_chunk) if chunk not in self.skipped]
        return once + once[: self.chunks - len(once)]

    def readings(self) -> list[Reading]:
        """`windows` as runs of consecutive chunks, without the full-size steps at the end."""
        windows, found = self.windows(), []
        starts = [w for w in range(len(windows)) if w == 0 or windows[w] != windows[w - 1] + 1]
        for start, end in zip(starts, [*starts[1:], len(windows)], strict=True):
            first, last = start * self.steps_per_chunk + 1, min(end * self.steps_per_chunk, self.first_full_step - 1)
            again = windows[start] in windows[:start]
            found.append(Reading(first, last, windows[start], end - start, SEED + start, again))
        return found

    def skipped_at(self) -> dict[int, int]:
        """Skipped chunk -> first step of the window that should have read it."""
        return {chunk: (chunk - k) * self.steps_per_chunk + 1 for k, chunk in enumerate(sorted(self.skipped))}

    def garbled_rows(self) -> dict[int, list[tuple[int, int]]]:
        """Chunk -> (seed of its shuffle, first position in it) of every garbled batch."""
        found: dict[int, list[tuple[int, int]]] = {}
        windows = self.windows()
        for step in self.garbled:
            window, local = divmod(step - 1, self.steps_per_chunk)
            found.setdefault(windows[window], []).append((SEED + window, local * ROWS_PER_STEP))
        return found
