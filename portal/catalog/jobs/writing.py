"""How rows of jobs are written: one transaction that begins with a write, one counter per job for all it tells."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Row, insert, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from portal.catalog.jobs.rules import LIVE
from portal.catalog.rows import storable
from portal.database import Engine, open_session
from portal.errors import JobNotFound, StaleLease
from portal.models import Job, JobEvent

ATTEMPT_MARK = "llm360_attempt_"
"""Begins the secrets of attempts; like every token of the portal they are kept as a digest."""
_EVENTS: Any = JobEvent.__table__  # type: ignore[attr-defined]
_JOBS: Any = Job.__table__  # type: ignore[attr-defined]
_ADD_EVENT = insert(_EVENTS)
_FENCED: tuple[str, ...] = (
    "told",
    "accepted",
    "state",
    "cancel_ms",
    "cancel_force",
    "first_step",
    "last_step",
    "progress_step",
)
_FENCED += ("resume_step", "failures", "stalls")
_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """One transaction: committed when the block ends, undone whole when it raises.

    Its first statement should be a write: SQLite refuses to turn a transaction that has read into a writing one
    once somebody else has written.
    """
    with open_session(engine) as session:
        yield session
        session.commit()


def insert_for(session: Session, table: type) -> Any:
    """INSERT in the dialect of the session's database, for ON CONFLICT."""
    return _INSERTS[session.get_bind().dialect.name](table.__table__)  # type: ignore[attr-defined]


def update_fenced(session: Session, job_id: int, number: int, fence: int, values: Mapping[str, Any]) -> Row[Any]:
    """Change a job for the attempt that holds its lease, and take the job's next number: (told, accepted, and more).

    The row stays locked until the transaction ends, so that the numbers of one job become visible in their order.
    Raises StaleLease for any other attempt.
    """
    job = _JOBS.c
    changed = update(_JOBS).where(job.id == job_id, job.attempts == number, job.fence == fence, job.state.in_(LIVE))
    row = session.execute(
        changed.values(told=job.told + 1, **values).returning(*(job[name] for name in _FENCED))
    ).first()
    if row is None:
        raise StaleLease(
            f"Attempt {number} of job {job_id} does not hold the job's lease (any more).",
            "Stop: the job ended, was cancelled, or another attempt has it.",
        )
    return row


def lock_job(session: Session, job_id: int) -> Row[Any]:
    """Take a job's row, and its next number, for this transaction. JobNotFound when there is none."""
    row = session.execute(
        update(Job).where(col(Job.id) == job_id).values(told=col(Job.told) + 1).returning(*Job.__table__.columns)  # type: ignore[attr-defined]
    ).first()
    if row is None:
        raise no_job(job_id)
    return row


def no_job(job_id: int) -> JobNotFound:
    """The error of a number that no job has."""
    return JobNotFound(f"There is no job {job_id}.", "See GET /api/v1/jobs for those there are.")


def tell(  # noqa: PLR0913 - the columns of an event
    session: Session,
    job_id: int,
    number: int,
    at_ms: int,
    kind: str,
    data: Mapping[str, Any],
    attempt: int | None = None,
) -> None:
    """Add an event under a number that was taken."""
    # Not through the ORM: this is the most frequent row of all, and nobody needs it back.
    event = {"job_id": job_id, "number": number, "attempt": attempt, "at_ms": at_ms, "kind": kind}
    session.execute(_ADD_EVENT, {"data": storable(dict(data)), **event})


def new_secret() -> str:
    """A secret for one attempt."""
    return ATTEMPT_MARK + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What is kept of a secret: it has 256 random bits, so nothing slower than sha256 is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
