"""The last step of a job whose outputs were accepted, and looks at what is left to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session, col

from portal.catalog.audit.writing import PORTAL, put_on_record
from portal.catalog.jobs.rules import PUBLISHING, SUCCEEDED, JobRules
from portal.catalog.jobs.writing import lock_job, tell, writing
from portal.catalog.rows import storable
from portal.database import Engine
from portal.models import Job, Run


@dataclass(frozen=True)
class Result:
    """What came out of a job."""

    run: str
    version: int
    verdict: str | None = None
    fidelity: Mapping[str, Any] = field(default_factory=dict)


def succeed(engine: Engine, job_id: int, result: Result, rules: JobRules) -> str:
    """`succeed_within` in a transaction of its own; the job's state."""
    with writing(engine) as session:
        return succeed_within(session, job_id, result, rules)


def succeed_within(session: Session, job_id: int, result: Result, rules: JobRules) -> str:
    """Mark an accepted job as done; its state. Again, or for a job that was not accepted, it changes nothing.

    The caller commits: a job succeeds in the transaction that makes its run visible.
    """
    now = rules.clock()
    row = lock_job(session, job_id)
    if row.state != PUBLISHING or row.accepted is None:
        return str(row.state)
    message = f"Published as {result.run}."
    values = {
        "state": SUCCEEDED,
        "ended_ms": now,
        "message": message,
        "progress_step": row.last_step,
        "derived_run": result.run,
        "derived_version": result.version,
        "verdict": result.verdict,
        "fidelity": storable(dict(result.fidelity)),
    }
    session.execute(update(Job).where(col(Job.id) == job_id).values(**values))
    told = {"state": SUCCEEDED, "message": message, "derived_run": result.run, "verdict": result.verdict}
    tell(session, job_id, row.told, now, "state", told, row.accepted)
    # About the run that came of it: whoever may not see that one must not learn its name from the one it began at.
    outcome = {"version": result.version, "verdict": result.verdict}
    put_on_record(session, "job.succeeded", PORTAL, f"job:{job_id}", result.run, outcome)
    # The verdict is shown on the run that was trained from: kept answers about it are stale now.
    org, _, name = row.run.partition("/")
    session.execute(
        update(Run).where(col(Run.org) == org, col(Run.name) == name).values(revision=col(Run.revision) + 1)
    )
    return SUCCEEDED


def note_trouble(engine: Engine, job_id: int, message: str, rules: JobRules) -> None:
    """Say why an accepted job is not published yet; once, however often it is tried."""
    with writing(engine) as session:
        row = lock_job(session, job_id)
        if row.state == PUBLISHING and row.message != message:
            session.execute(update(Job).where(col(Job.id) == job_id).values(message=storable(message)))
            tell(session, job_id, row.told, rules.clock(), "note", {"message": message}, row.accepted)


def list_unfinished(session: Session, limit: int = 100) -> list[int]:
    """Jobs whose outputs were accepted and are not published yet."""
    asked = select(col(Job.id)).where(col(Job.state) == PUBLISHING, col(Job.accepted).is_not(None))
    return [row.id for row in session.execute(asked.limit(limit))]
