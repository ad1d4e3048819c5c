"""Events are found where they are, and hardly any where they are not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from portal.metrics.events import MOST, detect_events, is_training_loss
from portal.metrics.series import SeriesData


def loss(points: int, seed: int = 0) -> SeriesData:
    """A smooth, noisy loss like a real one: fast at first, then slow."""
    rng = np.random.default_rng(seed)
    steps = np.arange(1, points + 1)
    values = 2.0 + 9.0 * np.exp(-steps / 300) + 0.5 * np.exp(-steps / 20_000) + rng.normal(size=points) * 0.03
    return SeriesData("loss", "train", "", "", "", "loss", "m.csv", "step", steps, values)


@pytest.mark.parametrize("seed", range(5))
def test_an_ordinary_loss_has_no_event(seed: int) -> None:
    assert detect_events([loss(30_000, seed)]) == []


def test_spikes_and_nan_runs_are_found_with_their_steps() -> None:
    series = loss(30_000)
    series.values[9_999] = 7.5
    series.values[20_000:20_030] = np.linspace(6, 2.5, 30)
    series.values[15_000:15_010] = math.nan
    series.values[15_020] = math.inf
    found = detect_events([series])
    assert [(e.kind, e.step) for e in found] == [("spike", 10_000), ("nan_loss", 15_001), ("spike", 20_001)]
    assert "7.5 at step 10000" in found[0].note
    assert found[1].last_step == 15_021
    assert "10 NaN and 1 infinite points between steps 15001 and 15021" in found[1].note
    assert 20_010 <= found[2].last_step <= 20_030


def test_many_events_are_summed_up_not_hidden() -> None:
    series = loss(100_000)
    places = np.arange(1_000, 61_000, 1_000)
    series.values[places] = np.linspace(4, 10, len(places))
    found = detect_events([series])
    assert len(found) == MOST + 1
    rest = next(e for e in found if "not listed singly" in e.note)
    assert f"{len(places) - MOST} smaller events" in rest.note
    assert (rest.step, rest.last_step) == (1_001, 40_001)


def test_nothing_but_nan_is_one_event() -> None:
    series = replace(loss(5_000), values=np.full(5_000, math.nan))
    found = detect_events([series])
    assert [(e.step, e.last_step, e.kind) for e in found] == [(1, 5_000, "nan_loss")]


def test_one_nan_is_named_alone() -> None:
    series = loss(100)
    series.values[40] = math.nan
    assert detect_events([series])[0].note == "loss: 1 NaN point."


def test_other_series_are_not_judged() -> None:
    assert detect_events([replace(loss(2_000), name="lr", column="lr", values=np.full(2_000, math.nan))]) == []


@pytest.mark.parametrize(
    ("name", "group", "expected"),
    [
        ("loss", "train", True),
        ("train/loss", "train", True),
        ("lm loss", "train", True),
        ("train/lm_loss", "", True),
        ("train/CrossEntropyLoss", "train", True),
        ("train/CE loss", "train", True),
        ("eval/c4/CrossEntropyLoss", "evaluation", False),
        ("loss", "validation", False),
        ("loss-scale", "train", False),
        ("train/ZLoss", "train", False),
        ("gloss", "train", False),
        ("learning-rate", "train", False),
    ],
)
def test_what_counts_as_training_loss(name: str, group: str, expected: bool) -> None:
    assert is_training_loss(name, name, group) is expected


def test_what_two_losses_show_is_one_event() -> None:
    series = loss(2_000)
    series.values[1_500] = math.nan
    assert len(detect_events([series, replace(series, name="train/CrossEntropyLoss")])) == 1
