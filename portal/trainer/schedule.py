"""Learning rates as pure functions of the step: nothing to restore, nothing to drift."""

from __future__ import annotations

import math
from typing import Any

KINDS: dict[str, dict[str, float | None]] = {
    "warmup-stable-decay": {"peak": None, "floor": 0.0, "warmup_steps": 0, "decay_from": None, "decay_to": None},
    "cosine": {"peak": None, "floor": 0.0, "warmup_steps": 0, "decay_to": None},
    "linear": {"peak": None, "floor": 0.0, "warmup_steps": 0, "decay_to": None},
    "constant": {"peak": None, "warmup_steps": 0},
}
"""The numbers each kind has, with their defaults; None: has to be given. All but the rates are steps of the run.

Every kind also takes ``start_step`` (default 0): the step the others are counted from, for a stage with its own schedule.
"""
for _numbers in KINDS.values():
    _numbers["start_step"] = 0


def learning_rate(schedule: dict[str, Any], step: int) -> float:
    """Of the update of ``step`` (from 1): up in a line over ``warmup_steps``, then as the kind says.

    ``warmup-stable-decay`` stays at ``peak`` to ``decay_from`` and falls in a line to ``floor`` at ``decay_to``;
    ``cosine`` (Loshchilov & Hutter 2017, one half wave) and ``linear`` fall from the end of the warm-up on. After
    ``decay_to`` the rate stays at ``floor``.
    """
    kind, peak = schedule["kind"], schedule["peak"]
    step, warmup = step - schedule.get("start_step", 0), schedule.get("warmup_steps", 0)
    if step < warmup:
        return float(peak * step / warmup)
    if kind == "constant":
        return float(peak)
    floor, last = schedule.get("floor", 0.0), schedule["decay_to"]
    first = schedule["decay_from"] if kind == "warmup-stable-decay" else warmup
    if step <= first:
        return float(peak)
    if step >= last:
        return float(floor)
    left = (last - step) / (last - first)
    if kind == "cosine":
        left = 0.5 * (1.0 + math.cos(math.pi * (1.0 - left)))
    return float(floor + (peak - floor) * left)


def check_schedule(schedule: dict[str, Any]) -> str | None:
    """What is wrong with a schedule, or None."""
    if schedule.get("floor", 0.0) > schedule["peak"]:
        return f"floor {schedule['floor']:g} is above peak {schedule['peak']:g}"
    if schedule["kind"] == "constant":
        return None
    begin = schedule["decay_from"] if schedule["kind"] == "warmup-stable-decay" else schedule["warmup_steps"]
    if schedule["warmup_steps"] > begin:
        return f"decay_from {begin} is before the warm-up ends at {schedule['warmup_steps']}"
    if schedule["decay_to"] <= begin:
        return f"decay_to {schedule['decay_to']} is not after step {begin}, where the rate begins to fall"
    return None
