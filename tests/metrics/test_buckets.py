"""No spike, NaN or infinity is lost at any zoom; every number of a bucket is the plain definition's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.errors import BadRequest
from portal.metrics.series import Series, SeriesData, open_series, write_series
from tests.metrics.naive import check_buckets

SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.7e308, -1.7e308, 5e-324, 1.0]


def stored(root: Path, steps: np.ndarray, values: np.ndarray, key: str = "org/run@1") -> Series:
    """One series written and opened again."""
    data = SeriesData("loss", "train", "nats", "", "", "loss", "x.csv", "step", steps, values)
    return open_series(root, write_series(root, key, [data])[0].location)


@st.composite
def series_and_question(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int | None, int | None, int]:
    """A series (gaps, repeated steps, special values) and a range with a bucket count."""
    points = draw(st.integers(0, 400))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    steps = np.sort(rng.integers(0, draw(st.sampled_from([10, 400, 10**6])), size=points))
    values = rng.normal(size=points) * draw(st.sampled_from([1.0, 1e300, 1e-300]))
    share = draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    odd = rng.random(points) < share
    values[odd] = rng.choice(draw(st.sampled_from([SPECIAL, [math.nan], [math.inf], [0.0, -0.0]])), size=int(odd.sum()))
    bound = st.one_of(st.none(), st.integers(-5, 450), st.sampled_from([10**6, 10**30, -(10**30)]))
    return steps, values, draw(bound), draw(bound), draw(st.integers(1, 60))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(series_and_question())
def test_buckets_equal_the_plain_definition(
    tmp_path: Path, case: tuple[np.ndarray, np.ndarray, int | None, int | None, int]
) -> None:
    steps, values, first, last, buckets = case
    answer = stored(tmp_path, steps, values).query(first, last, buckets)
    check_buckets(steps, values, first, last, buckets, answer)


@pytest.mark.parametrize("zoom", [1, 3, 30, 300, 3000])
def test_every_spike_nan_and_infinity_of_a_long_run_is_found_at_every_zoom(tmp_path: Path, zoom: int) -> None:
    rng = np.random.default_rng(zoom)
    points = 274_320
    steps = np.arange(1, points + 1)
    values = 2.0 + rng.normal(size=points) * 0.01
    spikes = rng.choice(points, 25, replace=False)
    values[spikes[:10]], values[spikes[10:15]] = 9.0, -9.0
    values[spikes[15:20]], values[spikes[20:23]], values[spikes[23:]] = math.nan, math.inf, -math.inf
    series = stored(tmp_path, steps, values)
    for place in spikes.tolist():
        width = points // zoom
        first = max(1, int(steps[place]) - int(rng.integers(0, width)))
        answer = series.query(first, min(points, first + width), 1000)
        assert 500 <= len(answer) <= 1000 or answer.raw
        step, value = int(steps[place]), float(values[place])
        bucket = int(answer.first_step.searchsorted(step, "right")) - 1
        if value == 9.0:
            assert answer.max[bucket] == value
        elif value == -9.0:
            assert answer.min[bucket] == value
        elif math.isnan(value):
            assert answer.nan[bucket] >= 1
        else:
            assert answer.inf[bucket] >= 1
        if math.isfinite(value):
            assert step in answer.min_step if value < 0 else step in answer.max_step
        else:
            assert step in answer.nonfinite_steps


def test_panning_keeps_the_inner_buckets(tmp_path: Path) -> None:
    series = stored(tmp_path, np.arange(100_000), np.sin(np.arange(100_000) / 50))
    left, right = series.query(10_000, 50_000, 500), series.query(10_200, 50_200, 500)
    assert set(right.first_step[1:-1].tolist()) >= set(left.first_step[10:-10].tolist())


def test_a_few_points_across_a_block_boundary_fit_in_one_bucket(tmp_path: Path) -> None:
    series = stored(tmp_path, np.arange(40), np.arange(40.0))
    for low in range(39):
        for high in range(low + 1, 40):
            for buckets in (1, 2, 3):
                answer = series.query(low, high, buckets)
                assert len(answer) <= buckets
                assert answer.points == high - low + 1


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(0, 4999))
def test_at_least_half_of_the_buckets_asked_for(
    tmp_path_factory: pytest.TempPathFactory, high: int, buckets: int, low: int
) -> None:
    series = stored(tmp_path_factory.mktemp("half"), np.arange(high), np.arange(float(high)))
    answer = series.query(low, None, buckets)
    assert min(buckets, answer.points) / 2 <= len(answer) <= buckets


def test_no_buckets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="at least 1"):
        stored(tmp_path, np.arange(3), np.ones(3)).query(buckets=0)
