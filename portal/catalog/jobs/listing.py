"""Jobs as answers: lists of them, one with everything about it, its log and its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Row, func, select
from sqlmodel import Session, col

from portal.catalog.answers import Page
from portal.catalog.answers.jobs import AttemptView, Happened, JobDetail, JobPoint, JobRow, OutputView
from portal.catalog.jobs.labels import read_labels
from portal.catalog.jobs.rules import LIVE, RUNNING, STATES
from portal.catalog.jobs.writing import no_job
from portal.catalog.paging import check_limit, check_text
from portal.errors import BadRequest
from portal.models import Job, JobAttempt, JobEvent, JobLog, JobMetric, JobOutput, Worker

_COLUMNS = [
    col(column)
    for column in (
        Job.id,
        Job.kind,
        Job.run,
        Job.version,
        Job.step,
        Job.first_step,
        Job.last_step,
        Job.state,
        Job.message,
        Job.submitted_by,
        Job.priority,
        Job.gpus,
        Job.needs,
        Job.created_ms,
        Job.ended_ms,
        Job.not_before_ms,
        Job.attempts,
        Job.progress_step,
        Job.resume_step,
        Job.cancel_ms,
        Job.derived_run,
        Job.derived_version,
        Job.verdict,
    )
]


def list_jobs(  # noqa: PLR0913 - every way a list can be narrowed
    session: Session,
    state: str | None = None,
    run: str | None = None,
    submitted_by: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
    step: int | None = None,
) -> Page[JobRow]:
    """Jobs, the newest first; ``state`` is one, several by commas, or ``live``; ``step`` that of their checkpoint.

    Two queries however many there are.
    """
    check_limit(limit)
    chosen: list[Any] = []
    if state:
        chosen.append(col(Job.state).in_(_states(state)))
    if run:
        chosen.append(col(Job.run) == check_text(run, "run"))
    if submitted_by is not None:
        chosen.append(col(Job.submitted_by) == submitted_by)
    if step is not None:
        chosen.append(col(Job.step) == step)
    total = session.execute(select(func.count()).select_from(Job).where(*chosen)).scalar_one()
    if cursor:
        if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
            raise BadRequest(
                "The cursor is not one this portal handed out.", "Start again without it.", parameter="cursor"
            )
        chosen.append(col(Job.id) < int(cursor))
    rows = session.execute(_with_worker().where(*chosen).order_by(col(Job.id).desc()).limit(limit + 1)).all()
    items = [JobRow(**_row(row)) for row in rows[:limit]]
    return Page(items, total, str(items[-1].id) if len(rows) > limit else None)


def count_jobs(session: Session) -> dict[str, int]:
    """How many jobs stand in each state."""
    counted = select(col(Job.state), func.count()).group_by(col(Job.state))
    return dict.fromkeys(STATES, 0) | {row[0]: row[1] for row in session.execute(counted)}


def get_job(session: Session, job_id: int) -> JobDetail:
    """One job whole. JobNotFound."""
    more = _with_worker().add_columns(col(Job.spec), col(Job.spec_digest), col(Job.fidelity), col(Job.told))
    row = session.execute(more.where(col(Job.id) == job_id)).first()
    if row is None:
        raise no_job(job_id)
    attempts = list(
        session.scalars(select(JobAttempt).where(col(JobAttempt.job_id) == job_id).order_by(col(JobAttempt.number)))
    )
    numbers = {a.id: a.number for a in attempts}
    handed = select(JobOutput).where(col(JobOutput.job_id) == job_id).order_by(col(JobOutput.step), col(JobOutput.id))
    outputs = [
        OutputView(
            numbers.get(o.attempt_id, 0),
            o.step,
            o.kind,
            o.files,
            as_time(o.at_ms),
            None if o.removed_ms is None else as_time(o.removed_ms),
        )
        for o in session.scalars(handed)
    ]
    return JobDetail(
        **_row(row),
        spec=orjson.loads(row.spec),
        spec_digest=row.spec_digest,
        attempt_list=[_attempt(a) for a in attempts],
        outputs=outputs,
        fidelity=row.fidelity,
        eta_seconds=_eta(session, row, attempts),
        told=row.told,
    )


def find_job(session: Session, job_id: int) -> JobRow:
    """One job as lists show it. JobNotFound."""
    row = session.execute(_with_worker().where(col(Job.id) == job_id)).first()
    if row is None:
        raise no_job(job_id)
    return JobRow(**_row(row))


def list_happened(session: Session, job_id: int, limit: int = 200) -> list[Happened]:
    """What happened to a job, the newest first."""
    asked = select(JobEvent).where(col(JobEvent.job_id) == job_id).order_by(col(JobEvent.number).desc()).limit(limit)
    return [Happened(as_time(e.at_ms), e.attempt, e.kind, e.data) for e in session.scalars(asked)]


def get_spec(session: Session, job_id: int) -> dict[str, Any]:
    """What a job is to do. JobNotFound."""
    spec = session.execute(select(col(Job.spec)).where(col(Job.id) == job_id)).scalar()
    if spec is None:
        raise no_job(job_id)
    return dict(orjson.loads(spec))


def read_log(session: Session, job_id: int, attempt: int | None = None) -> Iterator[bytes]:
    """The log of one attempt or of all, byte for byte, in pieces."""
    pieces = (
        select(col(JobLog.data)).where(col(JobLog.job_id) == job_id).order_by(col(JobLog.attempt), col(JobLog.offset))
    )
    if attempt is not None:
        pieces = pieces.where(col(JobLog.attempt) == attempt)
    for piece in session.execute(pieces.execution_options(yield_per=16)):
        yield piece.data


def list_points(session: Session, job_id: int, names: Sequence[str] = ()) -> list[JobPoint]:
    """Every number of a job by step and name; where several attempts trained a step, the last one's."""
    asked = select(
        col(JobMetric.step), col(JobMetric.name), col(JobMetric.value), col(JobMetric.special), col(JobMetric.attempt)
    ).where(col(JobMetric.job_id) == job_id)
    if names:
        asked = asked.where(col(JobMetric.name).in_(names))
    last: dict[tuple[int, str], JobPoint] = {}
    for row in session.execute(asked.order_by(col(JobMetric.step), col(JobMetric.name), col(JobMetric.attempt))):
        last[row.step, row.name] = JobPoint(*row)
    return list(last.values())


def _states(text: str) -> list[str]:
    wanted = list(LIVE) if text == "live" else text.split(",")
    if unknown := [s for s in wanted if s not in STATES]:
        raise BadRequest(
            f"{unknown[0][:50]!r} is no state of a job.", f"Use live, or any of {', '.join(STATES)}.", parameter="state"
        )
    return wanted


def _with_worker() -> Any:
    return select(*_COLUMNS, col(Worker.name).label("worker")).outerjoin(Worker, col(Worker.id) == col(Job.worker_id))


def _row(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "run": row.run,
        "version": row.version,
        "step": row.step,
        "first_step": row.first_step,
        "last_step": row.last_step,
        "state": row.state,
        "message": row.message,
        "submitted_by": row.submitted_by,
        "priority": row.priority,
        "gpus": row.gpus,
        "labels": read_labels(row.needs),
        "created_at": as_time(row.created_ms),
        "ended_at": None if row.ended_ms is None else as_time(row.ended_ms),
        "not_before": as_time(row.not_before_ms) if row.not_before_ms and row.state == "queued" else None,
        "attempts": row.attempts,
        "worker": row.worker,
        "progress_step": row.progress_step,
        "resume_step": row.resume_step,
        "cancelling": row.cancel_ms is not None and row.state in LIVE,
        "derived_run": row.derived_run,
        "derived_version": row.derived_version,
        "verdict": row.verdict,
    }


def _attempt(a: JobAttempt) -> AttemptView:
    return AttemptView(
        number=a.number,
        worker=a.worker,
        executor=a.executor,
        host=a.host,
        ext_ref=a.ext_ref,
        started_at=as_time(a.started_ms),
        ended_at=None if a.ended_ms is None else as_time(a.ended_ms),
        started_from=a.started_from,
        reached_step=a.reached_step,
        outcome=a.outcome,
        exit_code=a.exit_code,
        message=a.message,
        environment=a.environment,
        log_bytes=a.log_bytes,
        log_kept=a.log_kept,
        log_sha256=a.log_sha256,
    )


def _eta(session: Session, row: Row[Any], attempts: Sequence[JobAttempt]) -> float | None:
    if row.state != RUNNING or row.progress_step is None or not attempts:
        return None
    running = attempts[-1]
    told = select(col(JobEvent.at_ms), col(JobEvent.data)).where(
        col(JobEvent.job_id) == row.id, col(JobEvent.attempt) == running.number, col(JobEvent.kind) == "state"
    )
    begun = [e.at_ms for e in session.execute(told) if e.data.get("state") == RUNNING]
    latest = select(func.max(col(JobEvent.at_ms))).where(col(JobEvent.job_id) == row.id)
    trained = row.progress_step - running.started_from
    if not begun or trained <= 0:
        return None
    elapsed = max(int(datetime.now(UTC).timestamp() * 1000), session.execute(latest).scalar() or 0) - begun[0]
    return float(max(elapsed, 0) / 1000 / trained * (row.last_step - row.progress_step))


def as_time(ms: int) -> datetime:
    """Milliseconds since 1970 as a moment."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def get_state(session: Session, job_id: int) -> tuple[str, int]:
    """Where a job stands and how far it has told. JobNotFound."""
    row = session.execute(select(col(Job.state), col(Job.told)).where(col(Job.id) == job_id)).first()
    if row is None:
        raise no_job(job_id)
    return row.state, row.told


def get_submitter(session: Session, job_id: int) -> str:
    """Who submitted a job. JobNotFound."""
    name = session.execute(select(col(Job.submitted_by)).where(col(Job.id) == job_id)).scalar()
    if name is None:
        raise no_job(job_id)
    return str(name)


def find_output_file(session: Session, job_id: int, sha256: str) -> dict[str, Any] | None:
    """A file that an attempt of this job handed in."""
    handed = select(col(JobOutput.files)).where(col(JobOutput.job_id) == job_id, col(JobOutput.removed_ms).is_(None))
    for row in session.execute(handed):
        for file in row.files:
            if file.get("sha256") == sha256:
                return dict(file)
    return None


def find_owner(session: Session, job_id: int, number: int) -> int | None:
    """The token whose worker runs this attempt; None when there is no such attempt."""
    mine = (col(JobAttempt.job_id) == job_id) & (col(JobAttempt.number) == number)
    asked = select(col(Worker.token_id)).join(JobAttempt, col(JobAttempt.worker_id) == col(Worker.id)).where(mine)
    return session.execute(asked).scalar()
