"""Buckets of numbers that are not stored as a series (yet): those of a job that is still on."""

from __future__ import annotations

import numpy as np

from portal.metrics.buckets import NONE, Buckets
from portal.metrics.levels import Floats, Ints, summarise

_NAN, _ABOVE, _BELOW = 0, 1, 2
"""Places in `buckets.KINDS`."""


def buckets_of(steps: Ints, values: Floats, most: int = 1000) -> Buckets:
    """At most ``most`` buckets of ``values`` (float64[n]) at ascending ``steps`` (int64[n]); raw where that is enough."""
    finite = np.isfinite(values)
    kinds = np.where(np.isnan(values), _NAN, np.where(values > 0, _ABOVE, _BELOW)).astype(np.uint8)
    block = 1 if len(values) <= most else -(-len(values) // most)
    edges = np.arange(0, len(values), block)
    ends = np.minimum(edges + block, len(values)) - 1
    counts = {k: _counted(~finite & (kinds == k), edges) for k in (_NAN, _ABOVE, _BELOW)}
    whole = _counted(finite, edges)
    if block == 1:
        clean = np.where(finite, values, np.nan)
        low = high = mean = last = clean
        low_at = high_at = np.where(finite, steps, NONE)
    else:
        found = summarise(values, 0, block)
        low, high, mean, last = found.min, found.max, found.mean, found.last
        low_at, high_at = (np.where(whole > 0, steps[at], NONE) for at in (found.argmin, found.argmax))
    return Buckets(
        raw=block == 1,
        points=len(values),
        first_step=steps[edges],
        last_step=steps[ends],
        min=low,
        max=high,
        mean=mean,
        last=last,
        min_step=low_at,
        max_step=high_at,
        finite=whole,
        nan=counts[_NAN],
        inf=counts[_ABOVE] + counts[_BELOW],
        positive_inf=counts[_ABOVE],
        negative_inf=counts[_BELOW],
        nonfinite_steps=steps[~finite],
        nonfinite_kinds=kinds[~finite],
    )


def _counted(mask: np.ndarray, edges: Ints) -> Ints:
    """How many are True between each edge and the next."""
    return np.add.reduceat(mask.astype(np.int64), edges) if len(edges) else np.empty(0, np.int64)
