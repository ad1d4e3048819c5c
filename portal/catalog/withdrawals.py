"""Versions are withdrawn: readers are told so from then on, and the name stays with whoever published under it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlmodel import Session, col

from portal.catalog.accounts import Caller
from portal.catalog.audit.writing import put_on_record
from portal.catalog.jobs.withdrawn import Concerned, end_waiting
from portal.catalog.rows import storable
from portal.catalog.tombstones import find_withdrawn
from portal.database import Engine, open_session
from portal.errors import BadRequest, Conflict, Forbidden, NotFound, RunNotFound
from portal.models import File, Release, Run, Withdrawal

MAX_REASON = 2000


@dataclass(frozen=True)
class Withdrawing:
    """What a withdrawal did."""

    run: str
    versions: list[int]
    """Versions it withdrew, or purged; empty where all of them were already."""
    current: int | None
    """The version that is shown now; None: the run itself is withdrawn."""
    reason: str = ""
    jobs: Concerned = field(default_factory=Concerned)
    """Jobs from these versions: those that ended, and those that run on."""
    purged: list[str] = field(default_factory=list)
    """sha256 of the files of purged versions."""


def checked_reason(reason: str) -> str:
    """A reason as it is kept; BadRequest for none, or one that is longer than anybody reads."""
    told = " ".join(reason.split())
    if not told or len(told) > MAX_REASON:
        raise BadRequest(
            f"A reason has 1 to {MAX_REASON:,} characters.",
            "Say in a sentence why; readers will see it.",
            parameter="reason",
        )
    return storable(told)


def withdraw(engine: Engine, run: str, by: str, reason: str, version: int | None = None) -> Withdrawing:
    """Withdraw a version of ``org/name``, or all that are left; the newest one that is left is shown from then on.

    Jobs that wait to go on from it end. Doing it again changes nothing. RunNotFound, NotFound for a version there never was.
    """
    told = checked_reason(reason)
    with open_session(engine) as session:
        run_id, current = _lock(session, run)
        versions = _versions(session, run, run_id, version)
        gone = set(
            session.execute(
                select(col(Withdrawal.release_id)).where(col(Withdrawal.release_id).in_(versions.values()))
            ).scalars()
        )
        ended = {number: key for number, key in versions.items() if key not in gone}
        now = datetime.now(UTC)
        session.add_all(
            Withdrawal(release_id=key, withdrawn_at=now, withdrawn_by=storable(by), reason=told)
            for key in ended.values()
        )
        session.flush()
        shown = _show_newest(session, run_id, current)
        if ended:
            detail = {"versions": sorted(ended), "reason": told, "before": current, "after": shown}
            put_on_record(session, "run.withdrawn", by, f"run:{run}", run, detail)
        concerned = end_waiting(session, run, sorted(ended), by)
        session.commit()
    return Withdrawing(run, sorted(ended), shown or None, told, concerned)


def purge(engine: Engine, run: str, by: str, version: int | None = None) -> Withdrawing:
    """Let go of the bytes of withdrawn versions: nothing but another release, or a job, keeps them in the store any more.

    Who, when and why stay. Conflict for a version that was not withdrawn.
    """
    with open_session(engine) as session:
        run_id, current = _lock(session, run)
        versions = _versions(session, run, run_id, version)
        chosen = select(Withdrawal).where(col(Withdrawal.release_id).in_(versions.values()))
        rows = {row.release_id: row for row in session.execute(chosen).scalars()}
        if not rows:
            what = run if version is None else f"Version {version} of {run}"
            raise Conflict(f"{what} was not withdrawn.", "Withdraw it first: only what nobody can read is purged.")
        fresh = {number: key for number, key in versions.items() if key in rows and rows[key].purged_at is None}
        for key in fresh.values():
            rows[key].purged_at = datetime.now(UTC)
        if fresh:
            put_on_record(session, "run.purged", by, f"run:{run}", run, {"versions": sorted(fresh)})
        digests = (
            select(col(File.sha256)).where(col(File.release_id).in_(rows), col(File.sha256).is_not(None)).distinct()
        )
        purged = sorted(str(sha256) for sha256 in session.execute(digests).scalars())
        session.commit()
    return Withdrawing(run, sorted(fresh), current or None, purged=purged)


def check_may_return(session: Session, run: str, caller: Caller) -> None:
    """Forbidden where ``run`` was withdrawn and this caller is none of those who may publish under its name again.

    That are whoever published it, holders of a token of its organisation alone, and administrators.
    """
    gone = find_withdrawn(session, run)
    if gone is None or caller.reaches("admin") or caller.organisation == run.partition("/")[0]:
        return
    org, _, name = run.partition("/")
    asked = select(col(Release.published_by)).join(Run, col(Run.id) == col(Release.run_id))
    if caller.name in session.execute(asked.where(col(Run.org) == org, col(Run.name) == name)).scalars():
        return
    raise Forbidden(
        f"{run} was withdrawn, and its name is never given to anybody else.",
        "Its publisher may publish a corrected version; choose another name.",
    )


def refuse_withdrawn(session: Session, run: str, run_id: int, fingerprint: str) -> None:
    """Conflict where exactly this content was withdrawn from the run: it does not come back by being sent again."""
    asked = (
        select(col(Release.version), col(Withdrawal.withdrawn_by), col(Withdrawal.reason))
        .join(Withdrawal, col(Withdrawal.release_id) == col(Release.id))
        .where(col(Release.run_id) == run_id, col(Release.fingerprint) == fingerprint)
        .limit(1)
    )
    row = session.execute(asked).first()
    if row is not None:
        raise Conflict(
            f"This very content was withdrawn as version {row.version} of {run} by {row.withdrawn_by}: {row.reason}",
            "Publish a corrected release.",
            version=row.version,
        )


def _lock(session: Session, run: str) -> tuple[int, int]:
    """Take the run's row for this transaction: its id and the version that is shown."""
    org, _, name = run.partition("/")
    mine = update(Run).where(col(Run.org) == org, col(Run.name) == name)
    row = session.execute(mine.values(revision=col(Run.revision) + 1).returning(col(Run.id), col(Run.version))).first()
    if row is None:
        raise RunNotFound(f"There is no run {run[:200]!r}.", "See /runs for what there is.")
    return row.id, row.version


def _versions(session: Session, run: str, run_id: int, version: int | None) -> dict[int, int]:
    """Release ids by version; NotFound where there is none."""
    asked = select(col(Release.version), col(Release.id)).where(col(Release.run_id) == run_id)
    if version is not None:
        asked = asked.where(col(Release.version) == version)
    found = {row.version: row.id for row in session.execute(asked)}
    if not found:
        what = f"version {version} of {run}" if version is not None else f"version of {run}"
        raise NotFound(f"There is no {what}.", f"`/api/v1/runs/{run}/versions` lists those there are.")
    return found


def _show_newest(session: Session, run_id: int, before: int) -> int:
    """Make the newest version that is left the one that is shown (0: none is left); its number."""
    left = (
        select(col(Release.version))
        .where(col(Release.run_id) == run_id, col(Release.id).not_in(select(col(Withdrawal.release_id))))
        .order_by(col(Release.version).desc())
        .limit(1)
    )
    shown = int(session.execute(left).scalar() or 0)
    if shown != before:
        # Kept answers are dropped when the sum of versions and revisions grows, so the one must outdo the other.
        grown = col(Run.revision) + max(before - shown, 0)
        session.execute(update(Run).where(col(Run.id) == run_id).values(version=shown, revision=grown))
    return shown
