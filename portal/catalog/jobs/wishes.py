"""What people may still want of a job: that it ends, or that it is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import col

from portal.catalog.audit.writing import put_on_record
from portal.catalog.jobs.rules import CANCELLED, ENDED, FAILED, QUEUED, JobRules
from portal.catalog.jobs.writing import lock_job, tell, writing
from portal.catalog.tombstones import find_withdrawn
from portal.database import Engine
from portal.errors import Conflict
from portal.models import Job


@dataclass(frozen=True)
class Wish:
    """What became of it."""

    state: str
    message: str


def cancel(engine: Engine, job_id: int, by: str, rules: JobRules, force: bool = False) -> Wish:
    """End a job: at once while it is queued, else by telling its worker (``force``: without time to save).

    Asking again changes nothing but ``force``. Conflict for a job that has ended, or whose result was accepted.
    """
    now = rules.clock()
    with writing(engine) as session:
        row = lock_job(session, job_id)
        if row.state == CANCELLED:
            return Wish(CANCELLED, "It was cancelled before.")
        if row.state in ENDED or row.accepted is not None:
            raise Conflict(
                f"Job {job_id} {'has ' + row.state if row.state in ENDED else 'has already handed in its result'}.",
                "There is nothing left to cancel.",
                state=row.state,
            )
        wish = {"cancel_ms": row.cancel_ms or now, "cancel_force": row.cancel_force or force, "cancelled_by": by}
        state, message = row.state, f"Cancelled by {by}; its worker was told to stop."
        if row.state == QUEUED:
            state, message = CANCELLED, f"Cancelled by {by}."
            wish |= {"state": CANCELLED, "ended_ms": now}
        session.execute(update(Job).where(col(Job.id) == job_id).values(message=message, **wish))
        tell(session, job_id, row.told, now, "state", {"state": state, "message": message, "cancel": True})
        if row.cancel_ms is None or (force and not row.cancel_force):
            put_on_record(session, "job.cancelled", by, f"job:{job_id}", row.run, {"state": state, "force": force})
    return Wish(state, message)


def retry(engine: Engine, job_id: int, by: str, rules: JobRules) -> Wish:
    """Queue a job that failed or was cancelled again, from its last checkpoint, with all its attempts before it.

    Conflict for a job that is still on or has succeeded, Withdrawn where the version it goes on from was withdrawn.
    """
    now = rules.clock()
    with writing(engine) as session:
        row = lock_job(session, job_id)
        if row.state not in (FAILED, CANCELLED):
            raise Conflict(f"Job {job_id} is {row.state}.", "Only what failed or was cancelled can be tried again.")
        if gone := find_withdrawn(session, row.run, row.version):
            raise gone
        fresh = {
            "state": QUEUED,
            "failures": 0,
            "stalls": 0,
            "not_before_ms": 0,
            "cancel_ms": None,
            "cancel_force": False,
            "cancelled_by": None,
            "ended_ms": None,
            "fence": row.fence + 1,
            "progress_step": row.resume_step,
            "message": f"Queued again by {by}.",
        }
        session.execute(update(Job).where(col(Job.id) == job_id).values(**fresh))
        tell(session, job_id, row.told, now, "state", {"state": QUEUED, "message": fresh["message"]})
        put_on_record(session, "job.retried", by, f"job:{job_id}", row.run, {"before": row.state})
    return Wish(QUEUED, str(fresh["message"]))
