"""Written columns: byte for byte what the plain way writes, for every range, and bounded in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.metrics import written
from portal.metrics.response import NamedBuckets, to_json
from portal.metrics.series import Series
from portal.metrics.written import PAGE, PageShelf, written_buckets
from tests.metrics.test_buckets import stored

POINTS = 8 * PAGE * 2 + 1234


@pytest.fixture(scope="module")
def odd_series(tmp_path_factory: pytest.TempPathFactory) -> Series:
    """Three pages on the finest level, with numbers that are hard to write and stretches without any."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=POINTS) * 10.0 ** rng.integers(-300, 300, POINTS)
    values[rng.random(POINTS) < 0.02] = np.nan
    values[rng.choice(POINTS, 60)] = rng.choice([np.inf, -np.inf, -0.0, 5e-324, 1e16, 1.7976931348623157e308], 60)
    values[3000:3200] = np.nan
    values[8 * PAGE - 16 : 8 * PAGE + 16] = np.inf
    values[-40:] = np.nan
    return stored(tmp_path_factory.mktemp("odd"), np.arange(1, POINTS + 1) * 3, values)


def both(series: Series, first: int | None, last: int | None, buckets: int, packed: bool) -> tuple[bytes, bytes] | None:
    written_buckets(series, series.window(first, last, buckets), packed)  # pages are kept from the second time on
    found = written_buckets(series, series.window(first, last, buckets), packed)
    if found is None:
        return None
    plain = series.query(first, last, buckets)
    about = {"group": "g", "unit": 'a "unit"'}
    ours, theirs = (to_json([NamedBuckets("loss", b, None, about)], {"x": "step"}, packed) for b in (found, plain))
    return ours, theirs


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ends=st.tuples(st.integers(-5, 3 * POINTS + 5), st.integers(-5, 3 * POINTS + 5)),
    buckets=st.sampled_from([1, 2, 3, 50, 500, 1000, 2300]),
    packed=st.booleans(),
)
def test_any_range_reads_as_if_nothing_were_kept(
    odd_series: Series, ends: tuple[int, int], buckets: int, packed: bool
) -> None:
    found = both(odd_series, min(ends), max(ends), buckets, packed)
    assert found is None or found[0] == found[1]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("buckets", [1, 100, 1200, 2300])
def test_the_whole_series_comes_from_pages(odd_series: Series, buckets: int, packed: bool) -> None:
    found = both(odd_series, None, None, buckets, packed)
    assert found is not None
    assert found[0] == found[1]


def test_points_and_small_buckets_are_not_kept(odd_series: Series) -> None:
    assert written_buckets(odd_series, odd_series.window(3, 300, 1000), False) is None
    assert written_buckets(odd_series, odd_series.window(3, 3 * 4000, 1000), False) is None


def test_steps_beyond_32_bit_take_the_plain_way(tmp_path: Path) -> None:
    far = stored(tmp_path, np.arange(2**31 - 100, 2**31 + 9900), np.zeros(10_000))
    assert written_buckets(far, far.window(None, None, 100), True) is None


def test_what_is_asked_for_once_is_not_kept(odd_series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = PageShelf(1 << 20)
    monkeypatch.setattr(written, "shelf", fresh)
    window = odd_series.window(None, None, 1200)
    assert written_buckets(odd_series, window, True) is None
    assert fresh.bytes == 0
    assert written_buckets(odd_series, window, True) is not None
    assert fresh.bytes > 0
    assert written_buckets(odd_series, window, False) is None


def test_kept_pages_stay_within_their_bound(odd_series: Series, monkeypatch: pytest.MonkeyPatch) -> None:
    small = PageShelf(400_000)
    monkeypatch.setattr(written, "shelf", small)
    for packed in (False, True, False):
        for buckets in (2300, 1200, 700):
            found = both(odd_series, 3, None, buckets, packed)
            assert found is not None
            assert found[0] == found[1]
            assert 0 < small.bytes <= small.max_bytes
    small.clear()
    assert small.bytes == 0
