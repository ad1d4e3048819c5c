"""Whether a job did again what the original run did: losses step by step, published checkpoints tensor by tensor.

    exact         every compared loss and tensor is the same, bit for bit, and at least one checkpoint was compared
    equivalent    within the stated tolerance; how far apart they are is told
    weights-only  the base had no optimizer state, so the steps cannot be the same; how far apart they are is told
    diverged      beyond the tolerance, from a stated step on

Nothing is compared where rows or settings were not the run's own: then there is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

EXACT, EQUIVALENT, WEIGHTS_ONLY, DIVERGED = "exact", "equivalent", "weights-only", "diverged"


@dataclass(frozen=True)
class Tolerance:
    """How far apart two trainings may be that do the same sums in another order."""

    loss: float
    """Largest difference of two losses, in nats."""
    weights: float
    """Largest difference of two weights."""
    cosine: float
    """Least cosine of all weights together."""

    @classmethod
    def of(cls, precision: str) -> Tolerance:
        """By the precision of the sums. float32: a hundred times what other SIMD units and thread counts were seen to
        do in 150 steps (5e-7), and a hundredth of what a lost scheduler, optimizer or data position does (0.06 and more).
        bfloat16 keeps 8 bits, so that sums in another order differ in the third digit."""
        return cls(1e-4, 1e-4, 0.999999) if precision == "float32" else cls(2e-2, 2e-2, 0.999)


@dataclass(frozen=True)
class LossComparison:
    """Losses of the same steps."""

    series: str
    compared: int
    equal: int
    """Bit for bit; NaN equals NaN."""
    max_abs: float
    """Over those that are finite on both sides."""
    max_abs_step: int | None
    first_different: int | None
    left_at: int | None
    """The first step beyond the tolerance, or not finite on one side only."""


@dataclass(frozen=True)
class TensorComparison:
    """Tensors of one kind of one checkpoint."""

    compared: int
    equal: int
    max_abs: float
    """NaN where something is not finite on one side only."""
    worst: str | None
    """The tensor with the largest difference."""
    cosine: float | None
    unlike: list[str] = field(default_factory=list)
    """Names that only one side has, or of other shapes; up to ten."""


@dataclass(frozen=True)
class CheckpointComparison:
    """One published checkpoint beside the job's own of the same step."""

    step: int
    weights: TensorComparison | None
    optimizer: TensorComparison | None
    note: str = ""
    """Why it was not compared, where it was not."""


@dataclass(frozen=True)
class Evidence:
    """A verdict and everything it rests on."""

    verdict: str | None
    sentence: str
    tolerance: Tolerance
    losses: LossComparison | None = None
    checkpoints: list[CheckpointComparison] = field(default_factory=list)
    environment_differs: list[dict[str, Any]] = field(default_factory=list)
    """``{key, run, job}`` of what both sides state of their surroundings and differs."""
    left_at: int | None = None

    def as_json(self) -> dict[str, Any]:
        """As it is kept with the job."""
        return asdict(self)


def compare_losses(
    series: str, published: Mapping[int, float], found: Mapping[int, float], tolerance: Tolerance
) -> LossComparison | None:
    """Losses at the steps both have; None where there is no such step."""
    steps = sorted(published.keys() & found.keys())
    if not steps:
        return None
    equal, most, at, first, left = 0, 0.0, None, None, None
    for step in steps:
        ours, theirs = found[step], published[step]
        if ours == theirs or (math.isnan(ours) and math.isnan(theirs)):
            equal += 1
            continue
        first = step if first is None else first
        apart = abs(ours - theirs)
        if math.isfinite(apart) and apart > most:
            most, at = apart, step
        if left is None and not apart <= tolerance.loss:
            left = step
    return LossComparison(series, len(steps), equal, most, at, first, left)


def judge(
    tolerance: Tolerance,
    losses: LossComparison | None,
    checkpoints: Sequence[CheckpointComparison],
    has_optimizer: bool,
    environment_differs: Sequence[Mapping[str, Any]] = (),
) -> Evidence:
    """The verdict over what was compared."""
    compared = [c for c in checkpoints if c.weights is not None]
    differs = [dict(d) for d in environment_differs]
    if losses is None and not compared:
        sentence = "Neither a loss nor a checkpoint of these steps is published: there is nothing to compare with."
        return Evidence(None, sentence, tolerance, None, list(checkpoints), differs)
    left = _left_at(tolerance, losses, compared)
    verdict = _verdict(losses, compared, has_optimizer, left)
    sentence = _sentence(verdict, losses, compared, left, differs)
    return Evidence(verdict, sentence, tolerance, losses, list(checkpoints), differs, left)


def _verdict(
    losses: LossComparison | None, compared: Sequence[CheckpointComparison], has_optimizer: bool, left: int | None
) -> str:
    if not has_optimizer:
        return WEIGHTS_ONLY
    if left is not None:
        return DIVERGED
    same_losses = losses is None or losses.equal == losses.compared
    return EXACT if compared and same_losses and all(_is_same(c) for c in compared) else EQUIVALENT


def _is_same(checkpoint: CheckpointComparison) -> bool:
    held = [t for t in (checkpoint.weights, checkpoint.optimizer) if t is not None]
    return all(t.equal == t.compared and not t.unlike for t in held)


def _left_at(
    tolerance: Tolerance, losses: LossComparison | None, compared: Sequence[CheckpointComparison]
) -> int | None:
    """The first step at which anything is beyond the tolerance."""
    beyond = [c.step for c in compared if c.weights is not None and not _is_within(c.weights, tolerance)]
    if losses is not None and losses.left_at is not None:
        beyond.append(losses.left_at)
    return min(beyond, default=None)


def _is_within(weights: TensorComparison, tolerance: Tolerance) -> bool:
    near = weights.max_abs <= tolerance.weights and not weights.unlike
    return near and (weights.cosine is None or weights.cosine >= tolerance.cosine)


def _sentence(
    verdict: str,
    losses: LossComparison | None,
    compared: Sequence[CheckpointComparison],
    left: int | None,
    differs: Sequence[Mapping[str, Any]],
) -> str:
    steps = ", ".join(str(c.step) for c in compared[:5]) + (" and more" if len(compared) > 5 else "")
    parts = []
    if losses is not None:
        apart = "" if losses.equal == losses.compared else f", at most {losses.max_abs:.3g} apart"
        parts.append(f"{losses.equal} of {losses.compared} losses are the same bit for bit{apart}")
    if compared:
        weights = [c.weights for c in compared if c.weights is not None]
        equal, total = sum(w.equal for w in weights), sum(w.compared for w in weights)
        worst = max((w.max_abs for w in weights), default=0.0)
        apart = "" if equal == total else f", at most {worst:.3g} apart"
        parts.append(f"so are {equal} of {total} weight tensors at step {steps}{apart}")
    told = ", and ".join(parts).removeprefix("so are ")
    if verdict == EXACT:
        return f"It came out the same: {told}."
    if verdict == DIVERGED:
        return f"It left the published run at step {left}: {told}."
    surroundings = f" It ran elsewhere: {', '.join(str(d['key']) for d in differs[:5])} differ." if differs else ""
    if verdict == EQUIVALENT:
        missed = "" if compared else " No published checkpoint lies in these steps, so weights were not compared."
        return f"Within the tolerance: {told}.{missed}{surroundings}"
    return f"Without the original optimizer state the steps cannot be the same: {told}."
