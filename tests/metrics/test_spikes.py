"""Spike marks: every planted spike, no schedule, no beginning, no ripple."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from portal.metrics.series import SeriesData, open_series, write_series
from portal.metrics.spikes import MOST, find_spikes


def spike_steps(folder: Path, values: npt.NDArray[np.float64], buckets: int = 500) -> list[int]:
    about = dict.fromkeys(("group", "unit", "reduction", "description", "column", "source"), "")
    steps = np.arange(1, len(values) + 1)
    stored = write_series(folder, "lab/run/1", [SeriesData("loss", **about, x_kind="step", steps=steps, values=values)])
    found = open_series(folder, stored[0].location).query(None, None, buckets)
    return found.max_step[find_spikes(found)].tolist()


def training(count: int = 50_000) -> npt.NDArray[np.float64]:
    noise = np.random.default_rng(11).normal(0, 0.03, count)
    return np.asarray(2 + 8 / (1 + np.arange(count) / 200) ** 0.6 + noise)


@pytest.mark.parametrize("at", [3_000, 25_000, 49_000, 49_999])
def test_a_spike_of_one_step_is_marked_wherever_it_stands(tmp_path: Path, at: int) -> None:
    values = training()
    values[at] += 3
    assert spike_steps(tmp_path, values) == [at + 1]


def test_training_without_spikes_has_no_marks(tmp_path: Path) -> None:
    assert spike_steps(tmp_path, training()) == []


def test_the_corner_of_a_schedule_is_no_spike(tmp_path: Path) -> None:
    steps = np.arange(20_000)
    assert spike_steps(tmp_path, 3e-4 * np.minimum(steps / 500, 1 - (steps - 500) / 25_000)) == []


def test_a_ripple_on_a_smooth_curve_is_no_spike(tmp_path: Path) -> None:
    values = 3 + np.exp(-np.arange(200) / 30)
    values[90] += 0.01
    assert spike_steps(tmp_path, values) == []


def test_only_the_highest_are_marked_when_there_are_many(tmp_path: Path) -> None:
    values = training(60_000)
    places = np.arange(500, 60_000, 700)
    values[places] += np.linspace(2, 9, len(places))
    found = spike_steps(tmp_path, values, 1000)
    assert len(found) == MOST
    assert int(places[-1]) + 1 in found


@pytest.mark.parametrize("values", [[], [1.0] * 5, [np.nan] * 100, [2.0] * 100])
def test_too_few_or_flat_values_have_none(tmp_path: Path, values: list[float]) -> None:
    assert spike_steps(tmp_path, np.array(values, dtype=np.float64)) == []
