"""How the whole portal is, in numbers for whoever watches over it: jobs, workers, findings, fixity."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import case, func, select
from sqlmodel import Session, col

from portal.catalog.jobs.rules import LIVE, JobRules
from portal.database import Engine, open_session
from portal.models import Duty, FileLocation, Finding, Job, Release, Run, Worker


@dataclass(frozen=True)
class Condition:
    """Numbers of one moment."""

    runs: int
    jobs: dict[str, int] = field(default_factory=dict)
    """By state."""
    workers: dict[str, int] = field(default_factory=dict)
    """``ready``, ``busy``, ``draining``, ``silent``."""
    oldest_lease_s: float = 0.0
    """Seconds since the live job heard of longest ago last renewed its lease; 0 without live jobs."""
    findings: dict[str, int] = field(default_factory=dict)
    """Open ones of current releases, by severity."""
    files: dict[str, int] = field(default_factory=dict)
    """Locations of current releases, by what was last found there."""
    oldest_check_s: float = 0.0
    """Seconds since the checked location that was looked at longest ago was; 0 where none ever was."""
    duties: dict[str, float] = field(default_factory=dict)
    """By name: seconds for which some process still holds it; below 0: nobody does."""


def read_condition(engine: Engine, rules: JobRules) -> Condition:
    """A few counting queries, whatever the number of runs."""
    with open_session(engine) as session:
        return _read(session, rules)


def _read(session: Session, rules: JobRules) -> Condition:
    now = rules.clock()
    current = select(func.max(col(Release.id))).group_by(col(Release.run_id))
    jobs = session.execute(select(col(Job.state), func.count()).group_by(col(Job.state)))
    lease = session.execute(select(func.min(col(Job.lease_until_ms))).where(col(Job.state).in_(LIVE))).scalar()
    findings = session.execute(
        select(col(Finding.severity), func.count())
        .where(col(Finding.state) == "open", col(Finding.release_id).in_(current))
        .group_by(col(Finding.severity))
    )
    places = session.execute(select(col(FileLocation.state), func.count()).group_by(col(FileLocation.state)))
    checked = session.execute(select(func.min(col(FileLocation.checked_at)))).scalar()
    duties = session.execute(select(col(Duty.name), col(Duty.until_ms)))
    return Condition(
        runs=session.execute(select(func.count()).select_from(Run)).scalar_one(),
        jobs=dict(jobs.all()),
        workers=_workers(session, rules, now),
        oldest_lease_s=0.0 if lease is None else max(0.0, (now - lease + rules.lease_ms) / 1000),
        findings=dict(findings.all()),
        files=dict(places.all()),
        oldest_check_s=0.0 if checked is None else max(0.0, time.time() - _seconds(checked)),
        duties={name: (until - now) / 1000 for name, until in duties},
    )


def _workers(session: Session, rules: JobRules, now: int) -> dict[str, int]:
    silent = col(Worker.seen_ms) < now - rules.lease_ms
    draining = col(Worker.draining) | col(Worker.told_to_drain)
    state = case((silent, "silent"), (draining, "draining"), (col(Worker.free_slots) > 0, "ready"), else_="busy")
    return dict(session.execute(select(state, func.count()).group_by(state)).all())


def _seconds(moment: datetime) -> float:
    """SQLite gives moments back without their zone."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
