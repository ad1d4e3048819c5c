"""What began at a run's checkpoints: jobs, and what came out when training was repeated."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlmodel import Session, col

from portal.models import Job


@dataclass(frozen=True)
class Replayed:
    """A verdict about steps of a run, by the job that found it."""

    job: int
    kind: str
    first_step: int
    last_step: int
    verdict: str


def list_replayed(session: Session, run: str, step: int | None = None, limit: int = 20) -> list[Replayed]:
    """Verdicts about a run, the newest first; with ``step`` those of jobs that began or ended at its checkpoint."""
    asked = select(col(Job.id), col(Job.kind), col(Job.first_step), col(Job.last_step), col(Job.verdict)).where(
        col(Job.run) == run, col(Job.verdict).is_not(None)
    )
    if step is not None:
        asked = asked.where(or_(col(Job.step) == step, col(Job.last_step) == step))
    return [Replayed(*row) for row in session.execute(asked.order_by(col(Job.id).desc()).limit(limit))]


def count_verdicts(session: Session, run: str) -> dict[str, int]:
    """How many jobs came to each verdict about a run."""
    counted = select(col(Job.verdict), func.count()).where(col(Job.run) == run, col(Job.verdict).is_not(None))
    return {row[0]: row[1] for row in session.execute(counted.group_by(col(Job.verdict)).order_by(col(Job.verdict)))}
