"""Verdicts over replays of a run, for the badges on it and on its checkpoints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, select
from sqlmodel import Session, col

from portal.catalog.answers import VerdictView
from portal.models import Job

STRENGTH = ("exact", "equivalent", "weights-only", "diverged")
MOST = 50


def list_verdicts(session: Session, run: str, step: int | None = None) -> list[VerdictView]:
    """Jobs with a verdict over this run, the strongest first and of these the newest; one query.

    With ``step`` those that began with its checkpoint, or compared it with one of their own.
    """
    asked = select(
        col(Job.id),
        col(Job.kind),
        col(Job.verdict),
        col(Job.step),
        col(Job.last_step),
        col(Job.fidelity),
        col(Job.derived_run),
        col(Job.ended_ms),
    ).where(col(Job.run) == run, col(Job.verdict).is_not(None))
    if step is not None:
        asked = asked.where(col(Job.step) <= step, col(Job.last_step) >= step)
    found = [_view(row) for row in session.execute(asked.order_by(col(Job.id).desc()).limit(500))]
    if step is not None:
        found = [v for v in found if step in (v.from_step, *v.compared_steps)]
    return sorted(found, key=lambda v: STRENGTH.index(v.verdict))[:MOST]


def _view(row: Row[Any]) -> VerdictView:
    compared = [c["step"] for c in row.fidelity.get("checkpoints", []) if c.get("weights") is not None]
    ended = datetime.fromtimestamp((row.ended_ms or 0) / 1000, UTC)
    sentence = str(row.fidelity.get("sentence", ""))
    return VerdictView(
        row.id, row.kind, row.verdict, row.step, row.last_step, compared, sentence, row.derived_run, ended
    )
