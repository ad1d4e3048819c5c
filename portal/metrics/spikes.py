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
    near = min(WINDOW, finite.size // 2 * 2 - 1)
    far = min(WINDOW * 3, finite.size // 2 * 2 - 1)
    # Medians cost the most: first only where a bucket is the highest of its flanks, then for what is left of those.
    peaks = _highest_of_flanks(top)
    usual = _medians(top, near, peaks)
    low, high = np.percentile(top, (10, 90))
    floor = np.maximum(LEAST * np.maximum(np.abs(usual), high - low), np.finfo(np.float64).tiny)
    high_enough = (top[peaks] - usual > floor) & _falls_off(top, peaks, top[peaks] - usual)
    peaks, usual, floor = peaks[high_enough], usual[high_enough], floor[high_enough]
    if not peaks.size:
        return np.empty(0, dtype=np.intp)
    scale = _medians(np.abs(top - _medians(top, near)), far, peaks)
    excess = (top[peaks] - usual) / np.maximum(scale * THRESHOLD, floor)
    found = np.flatnonzero(excess > 1)
    if found.size > MOST:
        found = np.sort(found[np.argsort(excess[found])[-MOST:]])
    spikes: npt.NDArray[np.intp] = finite[peaks[found]]
    return spikes


def _highest_of_flanks(top: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Places of values that none of their flanks exceeds; of equal ones the first."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(top, FLANK, constant_values=-np.inf), 2 * FLANK + 1)
    return np.flatnonzero(np.argmax(windows, axis=1) == FLANK)


def _falls_off(
    top: npt.NDArray[np.float64], peaks: npt.NDArray[np.intp], height: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Which peaks have values below half their height on both flanks.

    A curve begins high without having risen, so a left flank is needed; what comes after the end is unknown.
    """
    padded = np.pad(top, FLANK, constant_values=(np.inf, -np.inf))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * FLANK + 1)[peaks]
    half = top[peaks] - height / 2
    alone: npt.NDArray[np.bool_] = (windows[:, :FLANK].min(axis=1) < half) & (
        windows[:, FLANK + 1 :].min(axis=1) < half
    )
    return alone


def _medians(
    values: npt.NDArray[np.float64], window: int, at: npt.NDArray[np.intp] | slice = slice(None)
) -> npt.NDArray[np.float64]:
    """Medians of an odd number of neighbours around each place, or around those in ``at``."""
    padded = np.pad(values, window // 2, mode="reflect" if values.size > window // 2 else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)[at]
    medians: npt.NDArray[np.float64] = np.partition(windows, window // 2, axis=1)[:, window // 2]
    return medians
