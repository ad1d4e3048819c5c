"""The x axes a run can give its curves: steps, tokens read, chunks begun, checkpoints passed."""

from __future__ import annotations

import numpy as np
from sqlmodel import Session

from portal.catalog.facts import ReleaseFacts
from portal.catalog.release import load_facts
from portal.errors import BadRequest
from portal.metrics.axes import Axis

MAX_KNOTS = 20_000
"""Known places of an axis; a run with more chunks or checkpoints is drawn by steps."""


def find_axis(session: Session, run: str, kind: str) -> Axis | None:
    """The axis of this kind, None for ``step``; BadRequest says why a run cannot give one."""
    facts = load_facts(session, run)
    if kind == "step":
        return None
    reason = _obstacle(facts, kind)
    if reason:
        raise BadRequest(f"x={kind} is not possible for {run}: {reason}", "Use x=step.", parameter="x")
    return {"tokens": _tokens, "chunk": _chunks, "checkpoint": _checkpoints}[kind](facts)


def axis_obstacles(session: Session, run: str) -> dict[str, str]:
    """For each kind of axis why this run cannot give it; empty where it can."""
    facts = load_facts(session, run)
    return {kind: _obstacle(facts, kind) for kind in ("step", "tokens", "chunk", "checkpoint")}


def last_step_of(session: Session, run: str) -> int:
    """The last step of a run."""
    return load_facts(session, run).last_step


def _obstacle(facts: ReleaseFacts, kind: str) -> str:
    if kind == "step":
        return ""
    if kind == "tokens":
        unknown = [s.name for s in facts.stages if s.tokens_per_step is None]
        if not facts.stages:
            return "nobody recorded how many tokens a step reads."
        return f"nobody recorded how many tokens a step of stage {unknown[0][:60]} reads." if unknown else ""
    if kind == "chunk":
        starts = len({s.first_step for s in facts.spans.all})
        return _too(starts, "its chunks are not tied to steps.", "all its chunks are read over the same steps.")
    if kind == "checkpoint":
        released = len(set(facts.released_steps))
        return _too(released, "it has no checkpoint at a step.", "it has only one checkpoint.")
    raise BadRequest(f"x is {kind[:50]!r}.", "Use step, tokens, chunk or checkpoint.", parameter="x")


def _too(count: int, none: str, one: str) -> str:
    if count > MAX_KNOTS:
        return f"{count:,} places are too many to count by."
    return none if count == 0 else one if count == 1 else ""


def _tokens(facts: ReleaseFacts) -> Axis:
    """Tokens read by the end of a step: a straight line inside each stage, level between stages."""
    steps: list[int] = []
    at: list[int] = []
    total = 0
    for stage in sorted(facts.stages, key=lambda s: s.first_step):
        begin = stage.first_step - 1
        if not steps or steps[-1] < begin:
            steps.append(begin)
            at.append(total)
        total += (stage.last_step - stage.first_step + 1) * (stage.tokens_per_step or 0)
        steps.append(stage.last_step)
        at.append(total)
    return Axis("tokens", np.array(steps, dtype=np.float64), np.array(at, dtype=np.float64))


def _chunks(facts: ReleaseFacts) -> Axis:
    """The number of the chunk in the order of reading, from 0, and how far in it a step lies."""
    starts = sorted({s.first_step for s in facts.spans.all})
    end = max(s.last_step for s in facts.spans.all) + 1
    steps = [*starts, *([end] if end > starts[-1] else [])]
    return Axis("chunk", np.array(steps, dtype=np.float64), np.arange(len(steps), dtype=np.float64))


def _checkpoints(facts: ReleaseFacts) -> Axis:
    """The number of the released checkpoint, from 0, and how far towards the next a step lies."""
    steps = sorted(set(facts.released_steps))
    return Axis("checkpoint", np.array(steps, dtype=np.float64), np.arange(len(steps), dtype=np.float64))
