"""The queue: what is submitted, and which worker may run it next.

A lease is one UPDATE of one row whose number a subquery picks, so that two workers never get the same job: on
PostgreSQL the subquery locks the row it picks and skips those that others hold, SQLite has one writer at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Row, bindparam, func, insert, select, update
from sqlmodel import Session, col

from portal.catalog.audit.writing import put_on_record
from portal.catalog.jobs.labels import answered_by, written_labels
from portal.catalog.jobs.rules import LEASED, LIVE, QUEUED, JobRules
from portal.catalog.jobs.withdrawn import end_leased
from portal.catalog.jobs.writing import digest_of, insert_for, new_secret, tell, writing
from portal.catalog.sight import Sight, hidden_runs
from portal.database import Engine
from portal.errors import Conflict
from portal.manifest.canonical import canonical_bytes, canonical_digest
from portal.models import Job, JobAttempt, JobOutput, JobOwner

_ATTEMPTS: Any = JobAttempt.__table__  # type: ignore[attr-defined]
_JOBS: Any = Job.__table__  # type: ignore[attr-defined]
_ADD_ATTEMPT = insert(_ATTEMPTS)
MAX_TRIES = 50
"""People at their limit, and jobs from what was withdrawn, that one request for work looks past."""


@lru_cache(maxsize=64)
def _taking(organisation: str | None) -> Any:
    """The claim, written once: the tables' own statement costs a third of what the models' does.

    Of private runs, a worker that is bound to an organisation gets that one's alone.
    """
    job = _JOBS.c
    kept = [] if organisation is None else [job.run.not_in(hidden_runs(Sight(organisation=organisation)))]
    first = (
        select(job.id)
        .where(
            job.state == QUEUED,
            job.not_before_ms <= bindparam("now"),
            job.gpus <= bindparam("free"),
            job.needs.in_(bindparam("answered", expanding=True)),
            job.submitted_by.not_in(bindparam("full", expanding=True)),
            *kept,
        )
        .order_by(job.priority.desc(), job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    taken = update(_JOBS).where(job.id == first.scalar_subquery(), job.state == QUEUED)
    named = ("id", "attempts", "fence", "submitted_by", "spec", "spec_digest", "run", "version", "step", "resume_step")
    return taken.values(
        state=LEASED,
        fence=job.fence + 1,
        attempts=job.attempts + 1,
        worker_id=bindparam("worker"),
        lease_until_ms=bindparam("until"),
        told=job.told + 1,
        message="",
    ).returning(*(job[name] for name in (*named, "told")))


@dataclass(frozen=True)
class NewJob:
    """A job as it is submitted: its spec (see `portal.jobs.specs`) and who wants it."""

    spec: Mapping[str, Any]
    submitted_by: str
    priority: int = 0
    idempotency_key: str | None = None
    request_digest: str = ""


@dataclass(frozen=True)
class Offer:
    """What a worker can take now."""

    worker_id: int
    worker: str
    executor: str
    host: str
    labels: Mapping[str, str]
    free_gpus: int
    organisation: str | None = None
    """The only one whose private runs it may read; None: any."""


@dataclass(frozen=True)
class Lease:
    """The right to run one attempt, until `lease_until_ms` or the last heartbeat's answer."""

    job: int
    attempt: int
    fence: int
    attempt_token: str
    lease_until_ms: int
    spec: dict[str, Any]
    spec_digest: str
    resume_step: int | None
    resume_files: list[dict[str, Any]]


def enqueue(engine: Engine, job: NewJob, rules: JobRules) -> tuple[int, bool]:
    """Put a job into the queue: (its number, whether it is new).

    With an idempotency key the same request again is the same job; Conflict when the key came with another request.
    """
    now = rules.clock()
    written = canonical_bytes(job.spec).decode()
    spec = job.spec
    values = {
        "kind": spec["kind"],
        "run": spec["base"]["run"],
        "version": spec["base"]["version"],
        "step": spec["base"]["step"],
        "first_step": spec["first_step"],
        "last_step": spec["last_step"],
        "spec": written,
        "spec_digest": canonical_digest(spec),
        "submitted_by": job.submitted_by,
        "idempotency_key": job.idempotency_key,
        "request_digest": job.request_digest,
        "priority": job.priority,
        "gpus": spec.get("resources", {}).get("gpus", 0),
        "needs": written_labels(spec.get("labels", {})),
        "created_ms": now,
    }
    with writing(engine) as session:
        owner = insert_for(session, JobOwner).values(name=job.submitted_by)
        session.execute(owner.on_conflict_do_nothing(index_elements=["name"]))
        insert = insert_for(session, Job).values(**_FRESH, **values)
        added = session.execute(
            insert.on_conflict_do_nothing(index_elements=["submitted_by", "idempotency_key"]).returning(col(Job.id))
        ).scalar()
        if added is not None:
            tell(session, added, 1, now, "state", {"state": QUEUED, "message": f"Submitted by {job.submitted_by}."})
            told = {name: values[name] for name in ("kind", "version", "step", "last_step", "spec_digest")}
            put_on_record(session, "job.submitted", job.submitted_by, f"job:{added}", values["run"], told)
            return int(added), True
        mine = (col(Job.submitted_by) == job.submitted_by) & (col(Job.idempotency_key) == job.idempotency_key)
        known = session.execute(select(col(Job.id), col(Job.request_digest)).where(mine)).one()
    if known[1] != job.request_digest:
        raise Conflict(
            f"This Idempotency-Key was sent with another request before, which became job {known[0]}.",
            "Use a new key for a new job.",
            job=known[0],
        )
    return int(known[0]), False


_FRESH: dict[str, Any] = {
    "state": QUEUED,
    "fence": 0,
    "attempts": 0,
    "failures": 0,
    "stalls": 0,
    "not_before_ms": 0,
    "cancel_force": False,
    "message": "",
    "fidelity": {},
    "told": 1,
}


def claim(engine: Engine, offer: Offer, rules: JobRules) -> Lease | None:
    """Lease the job this worker should run next; None when there is none for it. Jobs from what was withdrawn end."""
    full: list[str] = []
    for _ in range(MAX_TRIES):
        secret, now = new_secret(), rules.clock()
        with writing(engine) as session:
            row = _take(session, offer, rules, full, now)
            if row is None:
                return None
            if _is_beyond_limit(session, row.submitted_by, rules):
                session.rollback()
                full.append(row.submitted_by)
                continue
            if end_leased(session, row, rules):
                continue
            _record_attempt(session, row, offer, secret, now)
            files = _resume_files(session, row)
        return Lease(
            job=row.id,
            attempt=row.attempts,
            fence=row.fence,
            attempt_token=secret,
            lease_until_ms=now + rules.lease_ms,
            spec=orjson.loads(row.spec),
            spec_digest=row.spec_digest,
            resume_step=row.resume_step,
            resume_files=files,
        )
    return None


@dataclass(frozen=True)
class Wanted:
    """Queued jobs of one kind, as those who wait for work see them."""

    gpus: int
    needs: str
    jobs: int


def list_wanted(session: Session, rules: JobRules) -> list[Wanted]:
    """What kinds of worker the jobs that could be leased now ask for."""
    waiting = select(col(Job.gpus), col(Job.needs), func.count()).where(
        col(Job.state) == QUEUED, col(Job.not_before_ms) <= rules.clock()
    )
    return [Wanted(*row) for row in session.execute(waiting.group_by(col(Job.gpus), col(Job.needs)))]


def _take(session: Session, offer: Offer, rules: JobRules, full: Sequence[str], now: int) -> Row[Any] | None:
    given = {
        "now": now,
        "until": now + rules.lease_ms,
        "worker": offer.worker_id,
        "free": offer.free_gpus,
        "answered": answered_by(offer.labels),
        "full": list(full),
    }
    return session.execute(_taking(offer.organisation), given).first()


def _is_beyond_limit(session: Session, person: str, rules: JobRules) -> bool:
    if not rules.per_person:
        return False
    # Whoever counts a person's jobs holds their row: two claims at once would each miss the other's.
    session.execute(select(col(JobOwner.name)).where(col(JobOwner.name) == person).with_for_update())
    running = select(func.count()).where(col(Job.submitted_by) == person, col(Job.state).in_(LIVE))
    return bool(session.execute(running).scalar_one() > rules.per_person)


def _record_attempt(session: Session, row: Row[Any], offer: Offer, secret: str, now: int) -> None:
    started_from = row.step if row.resume_step is None else row.resume_step
    attempt = {
        "job_id": row.id,
        "number": row.attempts,
        "fence": row.fence,
        "worker_id": offer.worker_id,
        "worker": offer.worker,
        "executor": offer.executor,
        "host": offer.host,
        "secret_digest": digest_of(secret),
        "started_ms": now,
        "started_from": started_from,
        "message": "",
        "environment": {},
        **dict.fromkeys(("log_bytes", "log_kept", "log_carry"), 0),
    }
    session.execute(_ADD_ATTEMPT, attempt)
    message = f"Attempt {row.attempts} went to {offer.worker}, from step {started_from}."
    tell(session, row.id, row.told, now, "state", {"state": LEASED, "message": message}, row.attempts)


def _resume_files(session: Session, row: Row[Any]) -> list[dict[str, Any]]:
    if row.resume_step is None:
        return []
    handed = select(col(JobOutput.files)).where(col(JobOutput.job_id) == row.id, col(JobOutput.step) == row.resume_step)
    found = session.execute(handed.order_by(col(JobOutput.id).desc()).limit(1)).scalar()
    return list(found or [])
