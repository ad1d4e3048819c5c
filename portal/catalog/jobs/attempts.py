"""One attempt from its lease to its end: heartbeats, partial checkpoints, completion, and leases that run out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select, update
from sqlmodel import Session, col

from portal.catalog.accounts import ATTEMPT, Caller
from portal.catalog.jobs.ended import put_end_on_record
from portal.catalog.jobs.rules import (
    CANCELLED,
    FAILED,
    LIVE,
    LOST,
    PUBLISHING,
    QUEUED,
    SUCCEEDED,
    JobRules,
    Standing,
    follow,
)
from portal.catalog.jobs.writing import ATTEMPT_MARK, digest_of, insert_for, tell, update_fenced, writing
from portal.catalog.rows import storable
from portal.database import Engine
from portal.errors import Conflict, StaleLease
from portal.models import ApiToken, Job, JobAttempt, JobOutput, Worker

MAX_MESSAGE = 4000


@dataclass(frozen=True)
class AttemptKey:
    """What a worker shows with everything it says about an attempt."""

    job: int
    number: int
    fence: int


@dataclass(frozen=True)
class AttemptHolder:
    """Whose secret it is."""

    attempt_id: int
    job: int
    number: int
    ended: bool
    run: str
    """The run its job trains from."""


@dataclass(frozen=True)
class Beat:
    """What an attempt is doing."""

    phase: str
    step: int | None = None
    ext_ref: str | None = None
    message: str | None = None
    host: str | None = None


@dataclass(frozen=True)
class BeatAnswer:
    """Until when the lease holds now, and whether to stop: ``no``, ``graceful`` or ``kill``."""

    lease_until_ms: int
    cancel: str


@dataclass(frozen=True)
class Completion:
    """How an attempt ended, as its worker says."""

    outcome: str
    exit_code: int | None
    retryable: bool
    message: str
    environment: Mapping[str, Any]
    log_sha256: str | None
    digest: str
    """Of all of it."""


def find_attempt(session: Session, secret: str) -> AttemptHolder | None:
    """The attempt this secret was made for, unless the token of its worker was revoked."""
    found = session.execute(
        select(
            col(JobAttempt.id),
            col(JobAttempt.job_id),
            col(JobAttempt.number),
            col(JobAttempt.outcome),
            col(ApiToken.revoked_at),
            col(Job.run),
        )
        .join(Job, col(Job.id) == col(JobAttempt.job_id))
        .outerjoin(Worker, col(Worker.id) == col(JobAttempt.worker_id))
        .outerjoin(ApiToken, col(ApiToken.id) == col(Worker.token_id))
        .where(col(JobAttempt.secret_digest) == digest_of(secret))
    ).first()
    if found is None or found.revoked_at is not None:
        return None
    return AttemptHolder(found.id, found.job_id, found.number, found.outcome is not None, found.run)


def find_attempt_caller(session: Session, secret: str) -> Caller | None:
    """Who asks with the secret of an attempt that is on; None for any other text."""
    holder = find_attempt(session, secret) if secret.startswith(ATTEMPT_MARK) and len(secret) < 200 else None
    if holder is None or holder.ended:
        return None
    name = f"attempt {holder.number} of job {holder.job}"
    return Caller(None, name, ATTEMPT, runs=(holder.run,), job=holder.job)


def beat(engine: Engine, key: AttemptKey, said: Beat, rules: JobRules) -> BeatAnswer:
    """Keep the lease and note what the attempt is doing. StaleLease when another attempt has the job."""
    now = rules.clock()
    until = now + rules.lease_ms
    with writing(engine) as session:
        before = _state_of(session, key.job)
        values: dict[str, Any] = {"lease_until_ms": until}
        if before.accepted is None:
            values["state"] = said.phase
        if said.step is not None:
            values["progress_step"] = said.step
        row = update_fenced(session, key.job, key.number, key.fence, values)
        changed = before.accepted is None and before.state != said.phase
        if changed or said.message:
            told = {"state": row.state, "message": (said.message or "")[:MAX_MESSAGE], "step": said.step}
            tell(session, key.job, row.told, now, "state" if changed else "note", told, key.number)
        noted = {"host": said.host, "ext_ref": said.ext_ref, "reached_step": said.step}
        if given := {name: storable(value) for name, value in noted.items() if value is not None}:
            session.execute(_attempt(key).values(**given))
    return BeatAnswer(until, cancel_of(row, now, rules))


def cancel_of(row: Row[Any], now: int, rules: JobRules) -> str:
    """What a job's worker is told about stopping."""
    if row.cancel_ms is None or row.accepted is not None:
        return "no"
    return "kill" if row.cancel_force or now - row.cancel_ms > rules.grace_ms else "graceful"


def keep_output(
    engine: Engine, key: AttemptKey, step: int, kind: str, files: Sequence[Mapping[str, Any]], rules: JobRules
) -> int:
    """Note a checkpoint whose files are in the store: the step a next attempt would go on from."""
    now = rules.clock()
    with writing(engine) as session:
        row = update_fenced(session, key.job, key.number, key.fence, {})
        attempt_id = _open_attempt(session, key)
        insert = insert_for(session, JobOutput).values(
            job_id=key.job, attempt_id=attempt_id, step=step, kind=kind, files=list(files), at_ms=now
        )
        session.execute(
            insert.on_conflict_do_update(
                index_elements=["attempt_id", "step", "kind"],
                set_={"files": insert.excluded.files, "at_ms": insert.excluded.at_ms},
            )
        )
        resume = max(step, row.resume_step or step)
        session.execute(update(Job).where(col(Job.id) == key.job).values(resume_step=resume))
        size = sum(int(f.get("size") or 0) for f in files)
        told = {"step": step, "kind": kind, "files": len(files), "bytes": size}
        tell(session, key.job, row.told, now, "checkpoint", told, key.number)
    return resume


def find_completed(session: Session, key: AttemptKey, digest: str) -> str | None:
    """The job's state when this attempt's end was told in the same words before; None when it was not told yet.

    Conflict when it ended otherwise, StaleLease when it was taken away.
    """
    row = session.execute(
        select(
            col(JobAttempt.outcome),
            col(JobAttempt.completion_digest),
            col(JobAttempt.fence),
            col(Job.state),
            col(Job.accepted),
        )
        .join(Job, col(Job.id) == col(JobAttempt.job_id))
        .where(col(JobAttempt.job_id) == key.job, col(JobAttempt.number) == key.number)
    ).first()
    if row is None or row.fence != key.fence:
        raise StaleLease(f"Job {key.job} has no attempt {key.number} with this fence.", "Stop.")
    if row.outcome is None:
        return None
    if row.completion_digest is None:
        raise StaleLease(
            f"Attempt {key.number} of job {key.job} was given up as {row.outcome} before it told its end.", "Stop."
        )
    if row.completion_digest != digest:
        raise Conflict(
            f"Attempt {key.number} of job {key.job} told another end before.", "The first one counts.", state=row.state
        )
    return str(row.state)


def check_lease(engine: Engine, key: AttemptKey) -> None:
    """StaleLease unless this attempt holds its job's lease; nothing changes."""
    with writing(engine) as session:
        update_fenced(session, key.job, key.number, key.fence, {})


def accept(engine: Engine, key: AttemptKey, said: Completion, rules: JobRules) -> None:
    """Take a success whose outputs were looked at: from now on the job can only succeed.

    Whatever happens next (a crash, a second worker, somebody who cancels), the portal itself publishes what was
    accepted. StaleLease when the lease is no longer this attempt's.
    """
    now = rules.clock()
    with writing(engine) as session:
        row = update_fenced(
            session,
            key.job,
            key.number,
            key.fence,
            {"state": PUBLISHING, "accepted": key.number, "lease_until_ms": None, "message": "Being published."},
        )
        if row.accepted != key.number:
            raise StaleLease(f"Job {key.job} already has an accepted result.", "Stop.")
        _end_attempt(session, key, SUCCEEDED, said, now)
        message = f"The outputs of attempt {key.number} were checked and accepted."
        tell(session, key.job, row.told, now, "state", {"state": PUBLISHING, "message": message}, key.number)
        put_end_on_record(session, key.job, key.number, SUCCEEDED, PUBLISHING)


def end(engine: Engine, key: AttemptKey, outcome: str, said: Completion, rules: JobRules) -> str:
    """End an attempt that did not succeed; the job's state after it. StaleLease when it has lost the lease."""
    now = rules.clock()
    with writing(engine) as session:
        row = update_fenced(session, key.job, key.number, key.fence, {})
        if row.accepted is not None:
            raise StaleLease(f"Job {key.job} already has an accepted result.", "Stop.")
        _end_attempt(session, key, outcome, said, now)
        return _follow_up(session, key, row, outcome, said, rules)


def list_expired(session: Session, rules: JobRules, limit: int = 100) -> list[AttemptKey]:
    """Attempts whose leases ran out."""
    rows = session.execute(
        select(col(Job.id), col(Job.attempts), col(Job.fence))
        .where(col(Job.lease_until_ms) < rules.clock(), col(Job.state).in_(LIVE), col(Job.accepted).is_(None))
        .limit(limit)
    ).all()
    return [AttemptKey(*row) for row in rows]


def give_up(engine: Engine, key: AttemptKey, rules: JobRules) -> str | None:
    """Take the lease of an attempt that was not heard of; the job's state, or None when it was heard of after all."""
    now = rules.clock()
    said = Completion(LOST, None, False, "Not heard of until its lease ended.", {}, None, "")
    with writing(engine) as session:
        gone = update(Job).where(
            col(Job.id) == key.job,
            col(Job.fence) == key.fence,
            col(Job.state).in_(LIVE),
            col(Job.accepted).is_(None),
            col(Job.lease_until_ms) < now,
        )
        if not session.execute(gone.values(message="")).rowcount:  # type: ignore[attr-defined]
            return None
        row = update_fenced(session, key.job, key.number, key.fence, {})
        _end_attempt(session, key, LOST, said, now)
        return _follow_up(session, key, row, LOST, said, rules)


def _follow_up(
    session: Session, key: AttemptKey, row: Row[Any], outcome: str, said: Completion, rules: JobRules
) -> str:
    now = rules.clock()
    started = session.execute(
        select(col(JobAttempt.started_from)).where(
            col(JobAttempt.job_id) == key.job, col(JobAttempt.number) == key.number
        )
    ).scalar_one()
    standing = Standing(
        row.failures, row.stalls, row.cancel_ms is not None, row.resume_step is not None and row.resume_step > started
    )
    then = follow(outcome, standing, rules, said.exit_code, said.retryable)
    over = then.state in (FAILED, CANCELLED)
    message = " ".join(part for part in (said.message[:MAX_MESSAGE], then.message) if part)
    session.execute(
        update(Job)
        .where(col(Job.id) == key.job)
        .values(
            state=then.state,
            fence=col(Job.fence) + 1,
            failures=then.failures,
            stalls=then.stalls,
            not_before_ms=now + then.delay_ms,
            lease_until_ms=None,
            worker_id=None,
            progress_step=row.progress_step if over else row.resume_step,
            message=storable(message),
            ended_ms=now if over else None,
        )
    )
    told = {"state": then.state, "outcome": outcome, "exit_code": said.exit_code, "message": message}
    if then.state == QUEUED and then.delay_ms:
        told["not_before_ms"] = now + then.delay_ms
    tell(session, key.job, row.told, now, "state", told, key.number)
    put_end_on_record(session, key.job, key.number, outcome, then.state)
    return then.state


def _end_attempt(session: Session, key: AttemptKey, outcome: str, said: Completion, now: int) -> None:
    session.execute(
        _attempt(key).values(
            outcome=outcome,
            ended_ms=now,
            exit_code=said.exit_code,
            message=storable(said.message[:MAX_MESSAGE]),
            environment=storable(dict(said.environment)),
            completion_digest=said.digest or None,
            log_sha256=said.log_sha256,
        )
    )


def _attempt(key: AttemptKey) -> Any:
    open_one = col(JobAttempt.outcome).is_(None)
    return update(JobAttempt).where(col(JobAttempt.job_id) == key.job, col(JobAttempt.number) == key.number, open_one)


def _open_attempt(session: Session, key: AttemptKey) -> int:
    mine = (col(JobAttempt.job_id) == key.job) & (col(JobAttempt.number) == key.number)
    found = session.execute(select(col(JobAttempt.id)).where(mine, col(JobAttempt.outcome).is_(None))).scalar()
    if found is None:
        raise StaleLease(f"Attempt {key.number} of job {key.job} has ended.", "Stop.")
    return int(found)


def _state_of(session: Session, job_id: int) -> Row[Any]:
    # A write, so that nothing has changed between this look and the update that follows.
    row = session.execute(
        update(Job).where(col(Job.id) == job_id).values(kind=col(Job.kind)).returning(col(Job.state), col(Job.accepted))
    ).first()
    if row is None:
        raise StaleLease(f"There is no job {job_id}.", "Stop.")
    return row
