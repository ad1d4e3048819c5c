"""Checkpoints that attempts handed in and nothing uses any more: given up some time after their job has ended.

A row of an output stays, with the moment its files were given up; the files are removed with everything else in the store
that nothing refers to. A checkpoint that became part of a run is that run's, and stays.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select, update
from sqlmodel import Session, col

from portal.catalog.jobs.rules import ENDED, JobRules
from portal.catalog.jobs.writing import tell, writing
from portal.catalog.tombstones import purged_releases
from portal.database import Engine, open_session
from portal.models import File, Job, JobOutput

AT_ONCE = 100


def give_up_outputs(engine: Engine, older_than: timedelta, rules: JobRules) -> int:
    """Give up outputs of jobs that ended longer ago than this, except those whose files a run has; how many.

    Such a job starts from its beginning when it is tried again.
    """
    before = rules.clock() - int(older_than.total_seconds() * 1000)
    given, after = 0, 0
    while True:
        with open_session(engine) as session:
            jobs = _list_ended(session, before, after)
            # Most have only what their run took over: these are not written to.
            due = [job for job in jobs if _list_spare(session, job)]
        if not jobs:
            return given
        given += sum(_give_up(engine, job, before, rules) for job in due)
        after = jobs[-1]


def _list_ended(session: Session, before: int, after: int) -> list[int]:
    """Numbers of ended jobs that still keep outputs, in their order."""
    kept = select(col(JobOutput.job_id)).where(col(JobOutput.removed_ms).is_(None))
    asked = select(col(Job.id)).where(
        col(Job.id) > after, col(Job.state).in_(ENDED), col(Job.ended_ms) < before, col(Job.id).in_(kept)
    )
    return list(session.scalars(asked.order_by(col(Job.id)).limit(AT_ONCE)))


def _give_up(engine: Engine, job: int, before: int, rules: JobRules) -> int:
    now = rules.clock()
    with writing(engine) as session:
        # A write first: who tries the job again at this very moment comes before or after, not between.
        still = update(Job).where(col(Job.id) == job, col(Job.state).in_(ENDED), col(Job.ended_ms) < before)
        row = session.execute(still.values(kind=col(Job.kind)).returning(col(Job.told), col(Job.resume_step))).first()
        if row is None:
            return 0
        spare = _list_spare(session, job)
        if not spare:
            return 0
        session.execute(update(JobOutput).where(col(JobOutput.id).in_(spare)).values(removed_ms=now))
        kept = select(col(JobOutput.step)).where(col(JobOutput.job_id) == job, col(JobOutput.removed_ms).is_(None))
        left = max(session.scalars(kept), default=None)
        session.execute(update(Job).where(col(Job.id) == job).values(told=col(Job.told) + 1, resume_step=left))
        message = f"{len(spare)} checkpoints that no run uses were given up."
        tell(session, job, row.told + 1, now, "note", {"message": message})
    return len(spare)


def _list_spare(session: Session, job: int) -> list[int]:
    """Outputs of a job with a file that no release has that was not purged: what a run took over, it has whole."""
    asked = select(col(JobOutput.id), col(JobOutput.files)).where(
        col(JobOutput.job_id) == job, col(JobOutput.removed_ms).is_(None)
    )
    outputs = {row.id: {str(f["sha256"]) for f in row.files} for row in session.execute(asked)}
    names = sorted({sha256 for files in outputs.values() for sha256 in files})
    published: set[str] = set()
    for start in range(0, len(names), 500):
        part = col(File.sha256).in_(names[start : start + 500]) & col(File.release_id).not_in(purged_releases())
        published.update(s for s in session.scalars(select(col(File.sha256)).where(part).distinct()) if s)
    return [number for number, files in outputs.items() if not files <= published]
