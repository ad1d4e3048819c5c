"""Learning rates are what the papers' formulas say, at every step, without a state."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.demo.tiny_release import LAST_STEP, SCHEDULE
from portal.demo.tiny_release import learning_rate as tiny_rate
from portal.trainer.errors import BadInput
from portal.trainer.schedule import learning_rate
from portal.trainer.settings import parse_schedule

AMBER = {"kind": "cosine", "peak": 3e-4, "floor": 3e-5, "warmup_steps": 2000, "decay_to": 274_320}


def test_demo_tiny_was_trained_at_these_rates() -> None:
    assert [learning_rate(SCHEDULE, step) for step in range(1, LAST_STEP + 1)] == [
        tiny_rate(step) for step in range(1, LAST_STEP + 1)
    ]


def test_ambers_cosine() -> None:
    assert learning_rate(AMBER, 1) == pytest.approx(1.5e-7)
    assert learning_rate(AMBER, 2000) == 3e-4
    half = (2000 + 274_320) // 2
    assert learning_rate(AMBER, half) == pytest.approx((3e-4 + 3e-5) / 2)
    quarter = 0.5 * (1 + math.cos(math.pi / 4)) * (3e-4 - 3e-5) + 3e-5
    assert learning_rate(AMBER, 2000 + 68_080) == pytest.approx(quarter)
    assert learning_rate(AMBER, 274_320) == learning_rate(AMBER, 300_000) == 3e-5


def test_a_line_and_a_level() -> None:
    line = parse_schedule({"kind": "linear", "peak": 1.0, "warmup_steps": 10, "decay_to": 110})
    assert [learning_rate(line, step) for step in (5, 10, 60, 109, 110, 200)] == pytest.approx(
        [0.5, 1, 0.5, 0.01, 0, 0]
    )
    level = parse_schedule({"kind": "constant", "peak": 0.5, "warmup_steps": 2})
    assert [learning_rate(level, step) for step in (1, 2, 10**6)] == [0.25, 0.5, 0.5]


@given(
    st.sampled_from(["cosine", "linear", "warmup-stable-decay"]),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(1, 50),
    st.integers(0, 1000),
)
def test_rates_rise_stay_and_fall_between_their_bounds(
    kind: str, warmup: int, level: int, fall: int, start: int
) -> None:
    given_ = {"kind": kind, "peak": 2.0, "floor": 0.5, "warmup_steps": warmup, "start_step": start}
    given_["decay_to"] = warmup + level + fall
    if kind == "warmup-stable-decay":
        given_["decay_from"] = warmup + level
    schedule = parse_schedule(given_)
    rates = [learning_rate(schedule, start + step) for step in range(1, warmup + level + fall + 3)]
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[max(warmup - 1, 0) :] == sorted(rates[max(warmup - 1, 0) :], reverse=True)
    assert rates[-1] == 0.5
    assert max(rates) <= 2.0
    assert all(rate >= 0.5 for rate in rates[warmup:])


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        ({"kind": "sawtooth"}, "`schedule.kind` has to be one of warmup-stable-decay, cosine, linear, constant"),
        ({"kind": "cosine", "peak": 1}, "`schedule.decay_to` is missing"),
        ({"kind": "constant", "peak": "1"}, "`schedule.peak` has to be a number from 0"),
        ({"kind": "constant", "peak": float("nan")}, "`schedule.peak` has to be a number from 0"),
        ({"kind": "constant", "peak": 1, "floor": 0}, "`schedule` has settings that this trainer does not know: floor"),
        ({"kind": "linear", "peak": 1, "floor": 2, "decay_to": 9}, "floor 2 is above peak 1"),
        ({"kind": "linear", "peak": 1, "warmup_steps": 9, "decay_to": 9}, "decay_to 9 is not after step 9"),
        (
            {"kind": "warmup-stable-decay", "peak": 1, "warmup_steps": 5, "decay_from": 4, "decay_to": 9},
            "decay_from 4 is before the warm-up ends at 5",
        ),
    ],
)
def test_a_schedule_that_makes_no_sense_is_named(schedule: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_schedule(schedule)
    assert sentence in str(caught.value)
