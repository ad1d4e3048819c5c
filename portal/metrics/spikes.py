"""Which buckets hold a spike worth a mark: rare, far above their neighbourhood, judged robustly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from portal.metrics.buckets import Buckets

WINDOW = 41
"""Buckets around each one that say what is usual there."""
THRESHOLD = 12.0
"""How many robust deviations above the usual counts as a spike."""
MOST = 40
"""Highest spikes that get a mark; the band shows every one."""


def find_spikes(buckets: Buckets) -> npt.NDArray[np.intp]:
    """Indexes of at most ``MOST`` buckets whose maximum stands out from the medians around it, ascending.

    The deviation is the median absolute difference of neighbouring maxima, so that a slow trend (early
    training) is not a spike. Fewer than ten finite buckets are too few to judge.
    """
    finite = np.flatnonzero(buckets.finite > 0)
    if finite.size < 10:
        return np.empty(0, dtype=np.intp)
    top = buckets.max[finite]
    usual = _rolling_median(top, min(WINDOW, finite.size // 2 * 2 - 1))
    scale = _rolling_median(np.abs(top - usual), min(WINDOW * 3, finite.size // 2 * 2 - 1))
    floor = np.finfo(np.float64).eps * np.maximum(np.abs(usual), 1e-300)
    excess = (top - usual) / np.maximum(scale, floor + 1e-6 * np.median(np.abs(top)))
    # A plateau counts once: the mark goes to the highest bucket of its neighbourhood.
    padded = np.concatenate(([-np.inf], top, [-np.inf]))
    peak = (top >= padded[:-2]) & (top > padded[2:])
    found = np.flatnonzero((excess > THRESHOLD) & peak)
    if found.size > MOST:
        found = np.sort(found[np.argsort(excess[found])[-MOST:]])
    spikes: npt.NDArray[np.intp] = finite[found]
    return spikes


def _rolling_median(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    padded = np.pad(values, window // 2, mode="reflect" if values.size > window // 2 else "edge")
    median: npt.NDArray[np.float64] = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
    return median
