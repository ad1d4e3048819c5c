"""How attempts ended, on record."""

from __future__ import annotations

from sqlalchemy import select
from sqlmodel import Session, col

from portal.catalog.audit.writing import PORTAL, put_on_record
from portal.catalog.jobs.rules import LOST
from portal.models import ApiToken, Job, JobAttempt, Worker


def put_end_on_record(session: Session, job_id: int, number: int, outcome: str, state: str) -> None:
    """Leave an entry by the holder of the worker's token; a lease that ran out is ended by the portal itself.

    ``state`` is the job's from now on.
    """
    asked = (
        select(col(Job.run), col(ApiToken.name))
        .select_from(JobAttempt)
        .join(Job, col(Job.id) == col(JobAttempt.job_id))
        .outerjoin(Worker, col(Worker.id) == col(JobAttempt.worker_id))
        .outerjoin(ApiToken, col(ApiToken.id) == col(Worker.token_id))
        .where(col(JobAttempt.job_id) == job_id, col(JobAttempt.number) == number)
    )
    run, holder = session.execute(asked).one()
    actor = holder if holder and outcome != LOST else PORTAL
    told = {"attempt": number, "outcome": outcome, "state": state}
    put_on_record(session, "attempt.ended", actor, f"job:{job_id}", run, told)
