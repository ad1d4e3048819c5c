"""Jobs from a checkpoint whose version was withdrawn: nobody starts them, and each says why.

Those that wait end with the withdrawal. One that comes into the queue behind its back, submitted in the same moment or
given back by its worker, ends when it would be leased. Whatever runs already goes on: its owner is told, and decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, select, update
from sqlmodel import Session

from portal.catalog.audit.writing import put_on_record
from portal.catalog.jobs.rules import CANCELLED, LIVE, QUEUED, JobRules, now_ms
from portal.catalog.jobs.writing import tell
from portal.catalog.sight import EVERYTHING, looking_as
from portal.catalog.tombstones import find_withdrawn
from portal.models import Job, Release, Run, Withdrawal

_JOBS: Any = Job.__table__  # type: ignore[attr-defined]
_RUNS: Any = Run.__table__  # type: ignore[attr-defined]
_RELEASES: Any = Release.__table__  # type: ignore[attr-defined]
_GONE: Any = Withdrawal.__table__  # type: ignore[attr-defined]
# Of the tables themselves: whoever withdraws or leases must meet all jobs, whatever they may see.
_BY_WHOM = (
    select(_GONE.c.withdrawn_by)
    .join(_RELEASES, _RELEASES.c.id == _GONE.c.release_id)
    .join(_RUNS, _RUNS.c.id == _RELEASES.c.run_id)
    .where(
        _RUNS.c.org == bindparam("org"), _RUNS.c.name == bindparam("name"), _RELEASES.c.version == bindparam("version")
    )
)


@dataclass(frozen=True)
class Concerned:
    """Jobs that a withdrawal concerns, by their numbers."""

    ended: tuple[int, ...] = ()
    """They waited."""
    running: tuple[int, ...] = ()
    """They go on."""


def end_waiting(session: Session, run: str, versions: Sequence[int], by: str) -> Concerned:
    """End the jobs that wait to go on from withdrawn versions of ``run``, and tell those that run; in the withdrawal's
    own transaction."""
    ended: list[int] = []
    running: list[int] = []
    now, job = now_ms(), _JOBS.c
    for version in versions:
        gone = _told_of(session, run, version)
        mine = (job.run == run) & (job.version == version)
        waited = update(_JOBS).where(mine, job.state == QUEUED)
        told = {"told": job.told + 1}
        values = {**told, **_ended(f"{gone} It is not started any more.", by, now)}
        for row in session.execute(waited.values(**values).returning(job.id, job.told, job.run)).all():
            _tell_end(session, row, now, by, values["message"])
            ended.append(row.id)
        for row in session.execute(
            update(_JOBS).where(mine, job.state.in_(LIVE)).values(**told).returning(job.id, job.told, job.attempts)
        ).all():
            tell(session, row.id, row.told, now, "note", {"message": f"{gone} This job goes on."}, row.attempts)
            running.append(row.id)
    return Concerned(tuple(sorted(ended)), tuple(sorted(running)))


def end_leased(session: Session, row: Row[Any], rules: JobRules) -> bool:
    """Whether the version of a job that was just leased, of which nothing else was written yet, is withdrawn: the job
    ends then instead."""
    org, _, name = row.run.partition("/")
    by = session.execute(_BY_WHOM, {"org": org, "name": name, "version": row.version}).scalar()
    if by is None:
        return False
    now = rules.clock()
    gone = _told_of(session, row.run, row.version)
    values = _ended(f"{gone} It was not started again.", by, now)
    # No attempt was made; the fence only ever grows.
    free = {"attempts": row.attempts - 1, "worker_id": None, "lease_until_ms": None}
    session.execute(update(_JOBS).where(_JOBS.c.id == row.id).values(**free, **values))
    _tell_end(session, row, now, by, values["message"])
    return True


def _told_of(session: Session, run: str, version: int) -> str:
    """Who withdrew it, when and why, and which version there is instead."""
    with looking_as(EVERYTHING):
        gone = find_withdrawn(session, run, version)
    if gone is None:  # not within a transaction that found or made the withdrawal
        return f"Version {version} of {run} was withdrawn."
    return str(gone) if gone.extra["current"] else gone.message


def _ended(message: str, by: str, now: int) -> dict[str, Any]:
    return {"state": CANCELLED, "message": message, "ended_ms": now, "cancel_ms": now, "cancelled_by": by}


def _tell_end(session: Session, row: Row[Any], now: int, by: str, message: str) -> None:
    tell(session, row.id, row.told, now, "state", {"state": CANCELLED, "message": message, "cancel": True})
    put_on_record(session, "job.cancelled", by, f"job:{row.id}", row.run, {"state": CANCELLED, "withdrawn": True})
