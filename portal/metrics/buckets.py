"""The answer to a question about a series: at most so many buckets, with nothing hidden in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from portal.metrics.levels import Floats, Ints

NONE = -1
"""Stands for "no step" in ``min_step`` and ``max_step`` of a bucket without a finite value."""

KINDS = ("nan", "+inf", "-inf")
"""Names of the non-finite values, by the code in ``nonfinite_kinds``."""


@dataclass(frozen=True)
class Buckets:
    """Consecutive points of one series in buckets, or the points themselves (``raw``).

    All arrays but the last two have one entry per bucket, in ascending steps. ``min, max, mean, last``
    are over the finite values of the bucket and NaN where it has none. In raw answers every point is
    its own bucket. Several points may share a step (a restart logs a step twice): all are counted.
    """

    raw: bool
    points: int
    """Points in the range asked for, over all buckets."""
    first_step: Ints
    last_step: Ints
    min: Floats
    max: Floats
    mean: Floats
    last: Floats
    min_step: Ints
    """Exact step of ``min`` (its first occurrence); -1 without a finite value."""
    max_step: Ints
    finite: Ints
    """Points of the bucket that are finite; with ``nan`` and ``inf`` they add up to its points."""
    nan: Ints
    inf: Ints
    """Infinities of either sign: ``positive_inf + negative_inf``."""
    positive_inf: Ints
    negative_inf: Ints
    nonfinite_steps: Ints
    """Step of every non-finite point in the range, ascending, complete."""
    nonfinite_kinds: npt.NDArray[np.uint8]
    """Index into ``KINDS`` of each."""

    def __len__(self) -> int:
        return len(self.first_step)
