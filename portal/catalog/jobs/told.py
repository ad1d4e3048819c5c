"""What attempts tell while they run: log and numbers, kept so that whoever watches misses nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlmodel import Session, col

from portal.catalog.jobs.attempts import AttemptKey
from portal.catalog.jobs.rules import JobRules
from portal.catalog.jobs.writing import insert_for, no_job, tell, update_fenced, writing
from portal.catalog.rows import storable
from portal.database import Engine
from portal.errors import BadRequest, LogGap, StaleLease
from portal.models import Job, JobAttempt, JobEvent, JobLog, JobMetric

MAX_POINTS = 10_000
MAX_NAME = 200
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
READ_AT_ONCE = 200
"""Numbers of a job's counter that one look covers."""


@dataclass(frozen=True)
class Point:
    """One number of one step."""

    step: int
    name: str
    value: float


@dataclass(frozen=True)
class Told:
    """One thing a job told, with the number to go on after."""

    number: int
    kind: str
    data: dict[str, Any]


def append_log(engine: Engine, key: AttemptKey, offset: int, data: bytes, rules: JobRules) -> int:
    """Keep a piece of an attempt's log; the offset from which the next one goes on.

    What is here already is ignored; LogGap (with ``expected``) when bytes between are missing. Beyond the portal's
    limit bytes are counted and no longer kept, and an event says so once.
    """
    with writing(engine) as session:
        row = update_fenced(session, key.job, key.number, key.fence, {})
        attempt = session.execute(
            select(
                col(JobAttempt.id), col(JobAttempt.log_bytes), col(JobAttempt.log_kept), col(JobAttempt.log_carry)
            ).where(
                col(JobAttempt.job_id) == key.job,
                col(JobAttempt.number) == key.number,
                col(JobAttempt.outcome).is_(None),
            )
        ).first()
        if attempt is None:
            raise StaleLease(f"Attempt {key.number} of job {key.job} has ended.", "Stop.")
        if offset > attempt.log_bytes:
            raise LogGap(
                f"The log of this attempt is here up to byte {attempt.log_bytes:,}, not {offset:,}.",
                f"Send it from byte {attempt.log_bytes:,}.",
                expected=attempt.log_bytes,
            )
        fresh = data[attempt.log_bytes - offset :]
        if not fresh:
            return int(attempt.log_bytes)
        kept = fresh[: max(rules.max_log_bytes - attempt.log_kept, 0)] if attempt.log_kept == attempt.log_bytes else b""
        carry = 0
        if kept:
            carry = _keep_piece(session, key, attempt, row.told, kept)
        if len(kept) < len(fresh) and attempt.log_kept == attempt.log_bytes:
            _tell_limit(session, key, row.told, bool(kept), rules)
        total = int(attempt.log_bytes) + len(fresh)
        session.execute(
            update(JobAttempt)
            .where(col(JobAttempt.id) == attempt.id)
            .values(log_bytes=total, log_kept=attempt.log_kept + len(kept), log_carry=carry)
        )
    return total


def _keep_piece(session: Session, key: AttemptKey, attempt: Any, number: int, data: bytes) -> int:
    lead = b""
    if attempt.log_carry:
        before = select(col(JobLog.lead), col(JobLog.data)).where(col(JobLog.attempt_id) == attempt.id)
        last = session.execute(before.order_by(col(JobLog.offset).desc()).limit(1)).one()
        lead = (last.lead + last.data)[-attempt.log_carry :]
    tail = unfinished(lead + data)
    session.add(
        JobLog(
            job_id=key.job,
            attempt_id=attempt.id,
            attempt=key.number,
            number=number,
            offset=attempt.log_bytes,
            data=data,
            lead=lead,
            tail=tail,
        )
    )
    return tail


def _tell_limit(session: Session, key: AttemptKey, number: int, taken: bool, rules: JobRules) -> None:
    if taken:
        number = _next_number(session, key.job)
    message = f"The log is longer than {rules.max_log_bytes:,} bytes; what comes after is counted and not kept."
    tell(session, key.job, number, rules.clock(), "note", {"message": message}, key.number)


def _next_number(session: Session, job_id: int) -> int:
    taken = update(Job).where(col(Job.id) == job_id).values(told=col(Job.told) + 1).returning(col(Job.told))
    return int(session.execute(taken).scalar_one())


def unfinished(data: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character that is not whole (0 to 3)."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        needed = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 1
        return back if needed > back else 0
    return 0


def read_point(step: Any, name: Any, value: Any) -> Point:
    """A point as JSON carries it; numbers that are not finite come by name. BadRequest for anything else."""
    if isinstance(value, str) and value in SPECIAL:
        value = SPECIAL[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(
            f"The value of {str(name)[:100]!r} at step {str(step)[:20]} is no number.",
            'Write a number, or "NaN", "Infinity" or "-Infinity".',
        )
    try:
        return Point(step, name, float(value))
    except OverflowError:
        raise BadRequest(f"The value of {name[:100]!r} at step {step} is too large.", "Write it as a float.") from None


def keep_points(engine: Engine, key: AttemptKey, points: Sequence[Point]) -> int:
    """Keep numbers of an attempt, each in the place of an earlier one of its step and name; how many.

    BadRequest for steps the job does not train, or more than 10,000 points at once.
    """
    if len(points) > MAX_POINTS:
        raise BadRequest(f"{len(points):,} points are too many at once.", f"Send at most {MAX_POINTS:,}.")
    unique = {(p.step, p.name): p for p in points}
    with writing(engine) as session:
        row = update_fenced(session, key.job, key.number, key.fence, {})
        for point in unique.values():
            _check_point(point, row.first_step, row.last_step)
        mine = (col(JobAttempt.job_id) == key.job) & (col(JobAttempt.number) == key.number)
        attempt_id = session.execute(select(col(JobAttempt.id)).where(mine, col(JobAttempt.outcome).is_(None))).scalar()
        if attempt_id is None:
            raise StaleLease(f"Attempt {key.number} of job {key.job} has ended.", "Stop.")
        if not unique:
            return 0
        rows = [_metric_row(key, attempt_id, row.told, p) for p in unique.values()]
        for first in range(0, len(rows), 500):
            insert = insert_for(session, JobMetric).values(rows[first : first + 500])
            replaced = {name: insert.excluded[name] for name in ("value", "special", "number")}
            keys = ["attempt_id", "step", "name"]
            session.execute(insert.on_conflict_do_update(index_elements=keys, set_=replaced))
        newest = max(p.step for p in unique.values())
        if newest > (row.progress_step or 0):
            session.execute(update(Job).where(col(Job.id) == key.job).values(progress_step=newest))
    return len(unique)


def _check_point(point: Point, first: int, last: int) -> None:
    if isinstance(point.step, bool) or not isinstance(point.step, int) or not first <= point.step <= last:
        raise BadRequest(
            f"This job trains steps {first} to {last}; a number came for step {str(point.step)[:30]}.",
            "Send the steps that were trained.",
        )
    if not isinstance(point.name, str) or not 0 < len(point.name) <= MAX_NAME or not point.name.isprintable():
        raise BadRequest("A number's name is 1 to 200 printable characters.", "Name it as the run's series are.")


def _metric_row(key: AttemptKey, attempt_id: int, number: int, point: Point) -> dict[str, Any]:
    special = None
    if not math.isfinite(point.value):
        special = "NaN" if math.isnan(point.value) else "Infinity" if point.value > 0 else "-Infinity"
    return {
        "job_id": key.job,
        "attempt_id": attempt_id,
        "attempt": key.number,
        "number": number,
        "step": point.step,
        "name": storable(point.name),
        "value": None if special else point.value,
        "special": special,
    }


def read_told(session: Session, job_id: int, after: int) -> tuple[list[Told], int, bool]:
    """What a job told after this number: (things in their order, the number covered, whether there is more).

    JobNotFound when there is no such job.
    """
    told = session.execute(select(col(Job.told)).where(col(Job.id) == job_id)).scalar()
    if told is None:
        raise no_job(job_id)
    if after >= told:
        return [], told, False
    upto = min(told, after + READ_AT_ONCE)
    found = [*_events(session, job_id, after, upto), *_pieces(session, job_id, after, upto)]
    found += _numbers(session, job_id, after, upto)
    return sorted(found, key=lambda t: t.number), upto, upto < told


def list_told(session: Session, jobs: Sequence[int]) -> dict[int, int]:
    """How far each of these jobs has told."""
    rows = session.execute(select(col(Job.id), col(Job.told)).where(col(Job.id).in_(jobs))).all()
    return {row.id: row.told for row in rows}


def _events(session: Session, job_id: int, after: int, upto: int) -> list[Told]:
    asked = select(JobEvent).where(col(JobEvent.job_id) == job_id, col(JobEvent.number).between(after + 1, upto))
    return [Told(e.number, e.kind, {"attempt": e.attempt, "at_ms": e.at_ms, **e.data}) for e in session.scalars(asked)]


def _pieces(session: Session, job_id: int, after: int, upto: int) -> list[Told]:
    asked = select(JobLog).where(col(JobLog.job_id) == job_id, col(JobLog.number).between(after + 1, upto))
    return [
        Told(p.number, "log", {"attempt": p.attempt, "offset": p.offset - len(p.lead), "text": text_of(p)})
        for p in session.scalars(asked)
    ]


def text_of(piece: JobLog) -> str:
    """The whole characters of a piece; bytes that are no text are shown as U+FFFD."""
    data = piece.lead + piece.data
    return data[: len(data) - piece.tail].decode("utf-8", "replace")


def _numbers(session: Session, job_id: int, after: int, upto: int) -> list[Told]:
    asked = (
        select(
            col(JobMetric.number),
            col(JobMetric.attempt),
            col(JobMetric.step),
            col(JobMetric.name),
            col(JobMetric.value),
            col(JobMetric.special),
        )
        .where(col(JobMetric.job_id) == job_id, col(JobMetric.number).between(after + 1, upto))
        .order_by(col(JobMetric.number), col(JobMetric.step), col(JobMetric.name))
    )
    batches: dict[int, Told] = {}
    for row in session.execute(asked):
        batch = batches.setdefault(row.number, Told(row.number, "metrics", {"attempt": row.attempt, "points": []}))
        value = row.special if row.value is None else row.value
        batch.data["points"].append({"step": row.step, "name": row.name, "value": value})
    return list(batches.values())
