"""The last step of a job whose outputs were accepted, and looks at what is left to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session, col

from portal.catalog.jobs.rules import PUBLISHING, SUCCEEDED, JobRules
from portal.catalog.jobs.writing import lock_job, tell, writing
from portal.catalog.rows import storable
from portal.database import Engine
from portal.models import Job


@dataclass(frozen=True)
class Result:
    """What came out of a job."""

    run: str
    version: int
    verdict: str | None = None
    fidelity: Mapping[str, Any] = field(default_factory=dict)


def succeed(engine: Engine, job_id: int, result: Result | None, rules: JobRules) -> str:
    """Mark an accepted job as done; its state. Again, or for a job that was not accepted, it changes nothing."""
    now = rules.clock()
    with writing(engine) as session:
        row = lock_job(session, job_id)
        if row.state != PUBLISHING or row.accepted is None:
            return str(row.state)
        made = {} if result is None else {"derived_run": result.run, "derived_version": result.version}
        if result is not None and result.verdict is not None:
            made |= {"verdict": result.verdict, "fidelity": storable(dict(result.fidelity))}
        message = "Done." if result is None else f"Published as {result.run}."
        values = {"state": SUCCEEDED, "ended_ms": now, "message": message, "progress_step": row.last_step, **made}
        session.execute(update(Job).where(col(Job.id) == job_id).values(**values))
        told = {"state": SUCCEEDED, "message": message, **{k: v for k, v in made.items() if k != "fidelity"}}
        tell(session, job_id, row.told, now, "state", told, row.accepted)
    return SUCCEEDED


def list_unfinished(session: Session, limit: int = 100) -> list[int]:
    """Jobs whose outputs were accepted and are not published yet."""
    asked = select(col(Job.id)).where(col(Job.state) == PUBLISHING, col(Job.accepted).is_not(None))
    return [row.id for row in session.execute(asked.limit(limit))]
