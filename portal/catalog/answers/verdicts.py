"""What jobs proved about a run: badges on it and on its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class VerdictView:
    """A job that did steps of a run again, and how near it came."""

    job: int
    kind: str
    """``replay``, or ``resume`` over the run's own data and settings."""
    verdict: str
    """``exact``, ``equivalent``, ``weights-only`` or ``diverged``."""
    from_step: int
    """Of the checkpoint it began with."""
    last_step: int
    compared_steps: list[int]
    """Published checkpoints that were compared tensor by tensor."""
    sentence: str
    """What was compared and how it came out, for people."""
    derived_run: str | None
    ended_at: datetime
