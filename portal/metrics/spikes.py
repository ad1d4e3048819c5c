"""Which buckets hold a spike worth a mark: rare, far above their neighbourhood, judged robustly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from portal.metrics.buckets import Buckets

WINDOW = 41
"""Buckets around each one that say what is usual there."""
THRESHOLD = 12.0
"""How many robust deviations above the usual counts as a spike."""
LEAST = 0.05
"""And at least this part of the usual level: on a very smooth curve every ripple is many deviations."""
FLANK = 3
"""Within so many buckets on both sides a spike has lost half its height; the corner of a schedule has not."""
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
    height = top - usual
    floor = LEAST * np.maximum(np.abs(usual), np.subtract(*np.percentile(top, (90, 10))))
    excess = height / np.maximum(scale * THRESHOLD, np.maximum(floor, np.finfo(np.float64).tiny))
    found = np.flatnonzero((excess > 1) & _stands_alone(top, height))
    if found.size > MOST:
        found = np.sort(found[np.argsort(excess[found])[-MOST:]])
    spikes: npt.NDArray[np.intp] = finite[found]
    return spikes


def _stands_alone(top: npt.NDArray[np.float64], height: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Where a value is the highest of its flanks and both flanks fall below half its height.

    A curve begins high without having risen, so a left flank is needed; what comes after the end is unknown.
    """
    padded = np.pad(top, FLANK, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * FLANK + 1)
    highest = np.nanargmax(windows, axis=1) == FLANK
    half = top - height / 2
    alone: npt.NDArray[np.bool_] = highest.copy()
    after = np.pad(top, FLANK, constant_values=(np.nan, -np.inf))
    for flank in (windows[:, :FLANK], np.lib.stride_tricks.sliding_window_view(after, 2 * FLANK + 1)[:, FLANK + 1 :]):
        lowest = np.min(np.where(np.isnan(flank), np.inf, flank), axis=1)
        alone &= lowest < half
    return alone


def _rolling_median(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    padded = np.pad(values, window // 2, mode="reflect" if values.size > window // 2 else "edge")
    median: npt.NDArray[np.float64] = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
    return median
