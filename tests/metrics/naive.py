"""Buckets by the plain definition, to hold the fast ones against."""

from __future__ import annotations

import math

import numpy as np

from portal.metrics.buckets import KINDS, NONE, Buckets


def check_buckets(
    steps: np.ndarray, values: np.ndarray, first: int | None, last: int | None, limit: int, answer: Buckets
) -> None:
    """Fail unless ``answer`` says exactly what the points in the range say."""
    inside = [i for i, s in enumerate(steps.tolist()) if (first is None or s >= first) and (last is None or s <= last)]
    assert answer.points == len(inside)
    assert len(answer) <= max(limit, 0)
    assert answer.raw == (len(inside) <= limit)
    sizes = (answer.finite + answer.nan + answer.inf).tolist()
    assert sum(sizes) == len(inside)
    assert all(size > 0 for size in sizes)
    if answer.raw:
        assert sizes == [1] * len(inside)
    at = 0
    for bucket, size in enumerate(sizes):
        places = inside[at : at + size]
        at += size
        _check_bucket(answer, bucket, [int(steps[i]) for i in places], [float(values[i]) for i in places])
    _check_nonfinite(answer, [(int(steps[i]), float(values[i])) for i in inside])


def _check_bucket(answer: Buckets, bucket: int, steps: list[int], values: list[float]) -> None:
    assert answer.first_step[bucket] == steps[0]
    assert answer.last_step[bucket] == steps[-1]
    finite = [v for v in values if math.isfinite(v)]
    assert answer.finite[bucket] == len(finite)
    assert answer.nan[bucket] == sum(math.isnan(v) for v in values)
    assert answer.positive_inf[bucket] == values.count(math.inf)
    assert answer.negative_inf[bucket] == values.count(-math.inf)
    assert answer.inf[bucket] == answer.positive_inf[bucket] + answer.negative_inf[bucket]
    if not finite:
        assert all(math.isnan(column[bucket]) for column in (answer.min, answer.max, answer.mean, answer.last))
        assert answer.min_step[bucket] == answer.max_step[bucket] == NONE
        return
    assert answer.min[bucket] == min(finite)
    assert answer.max[bucket] == max(finite)
    assert answer.last[bucket] == finite[-1]
    assert answer.min_step[bucket] == next(s for s, v in zip(steps, values, strict=True) if v == min(finite))
    assert answer.max_step[bucket] == next(s for s, v in zip(steps, values, strict=True) if v == max(finite))
    scale = max(abs(v) for v in finite)
    mean = math.fsum(v / len(finite) for v in finite)
    assert abs(answer.mean[bucket] - mean) <= 1e-12 * scale + 1e-300


def _check_nonfinite(answer: Buckets, points: list[tuple[int, float]]) -> None:
    kinds = [KINDS[k] for k in answer.nonfinite_kinds.tolist()]
    expected = [(s, "nan" if math.isnan(v) else "+inf" if v > 0 else "-inf") for s, v in points if not math.isfinite(v)]
    assert list(zip(answer.nonfinite_steps.tolist(), kinds, strict=True)) == expected
