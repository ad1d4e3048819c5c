"""What is left of runs and versions that were withdrawn: who did it, when and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session, col

from portal.catalog.answers.versions import FileChanges, VersionView, WithdrawalView
from portal.errors import Withdrawn
from portal.models import File, Release, Run, Withdrawal


def list_versions(session: Session, run: str) -> list[VersionView]:
    """Every version ever published under ``org/name``, the newest first; empty where none was."""
    org, _, name = run.partition("/")
    asked: Any = (
        select(Release, Withdrawal, col(Run.version).label("current"))
        .join(Run, col(Run.id) == col(Release.run_id))
        .join(Withdrawal, col(Withdrawal.release_id) == col(Release.id), isouter=True)
        .where(col(Run.org) == org, col(Run.name) == name)
        .order_by(col(Release.version).desc())
    )
    return [_version(row, run) for row in session.execute(asked)]


def newest_withdrawn() -> Any:
    """Release ids of runs of which no version is left, the newest of each: as a subquery."""
    newest = func.max(col(Release.version))
    gone = (
        select(col(Release.run_id), newest.label("version"))
        .join(Run, col(Run.id) == col(Release.run_id))
        .where(col(Run.version) == 0)
        .group_by(col(Release.run_id))
        .subquery()
    )
    return select(col(Release.id)).join(
        gone, (gone.c.run_id == col(Release.run_id)) & (gone.c.version == col(Release.version))
    )


def withdrawn_releases() -> Any:
    """Ids of all withdrawn releases, as a subquery."""
    return select(col(Withdrawal.release_id))


def purged_releases() -> Any:
    """Ids of withdrawn releases whose bytes were purged, as a subquery."""
    return select(col(Withdrawal.release_id)).where(col(Withdrawal.purged_at).is_not(None))


def find_withdrawn(session: Session, run: str, version: int | None = None) -> Withdrawn | None:
    """The error to raise for a version of ``run`` that was withdrawn, or for the run where all were; None otherwise."""
    org, _, name = run.partition("/")
    asked: Any = (
        select(Withdrawal, col(Release.version), col(Run.version).label("current"))
        .join(Release, col(Release.id) == col(Withdrawal.release_id))
        .join(Run, col(Run.id) == col(Release.run_id))
        .where(col(Run.org) == org, col(Run.name) == name)
        .order_by(col(Release.version).desc())
        .limit(1)
    )
    asked = asked.where(col(Run.version) == 0) if version is None else asked.where(col(Release.version) == version)
    row = session.execute(asked).first()
    return None if row is None else _error(run, withdrawal_view(row[0], row.version), row.current, version is None)


def find_withdrawn_file(session: Session, sha256: str) -> Withdrawn | None:
    """The error to raise for a file that only withdrawn releases hold; None where none holds it."""
    asked: Any = (
        select(Withdrawal, col(Release.version), col(Run.version).label("current"), col(Run.org), col(Run.name))
        .join(Release, col(Release.id) == col(Withdrawal.release_id))
        .join(Run, col(Run.id) == col(Release.run_id))
        .join(File, col(File.release_id) == col(Release.id))
        .where(col(File.sha256) == sha256)
        .order_by(col(Withdrawal.id).desc())
        .limit(1)
    )
    row = session.execute(asked).first()
    if row is None:
        return None
    return _error(f"{row.org}/{row.name}", withdrawal_view(row[0], row.version), row.current, False)


def find_withdrawals(session: Session, releases: Sequence[int]) -> dict[int, WithdrawalView]:
    """What became of releases, by their id; those that were not withdrawn are left out."""
    asked: Any = select(Withdrawal, col(Release.version)).join(Release, col(Release.id) == col(Withdrawal.release_id))
    rows = session.execute(asked.where(col(Withdrawal.release_id).in_(releases)))
    return {row[0].release_id: withdrawal_view(row[0], row.version) for row in rows}


def withdrawal_view(row: Withdrawal, version: int) -> WithdrawalView:
    """A withdrawal as answers show it."""
    purged = None if row.purged_at is None else _utc(row.purged_at)
    return WithdrawalView(version, _utc(row.withdrawn_at), row.withdrawn_by, row.reason, purged)


def _version(row: Any, run: str) -> VersionView:
    release, withdrawal, current = row
    return VersionView(
        version=release.version,
        published_at=_utc(release.published_at),
        published_by=release.published_by,
        reason=release.reason,
        changes=FileChanges(**release.changes) if release.changes else None,
        fingerprint=release.fingerprint,
        checkpoints=release.checkpoint_count,
        files=release.file_count,
        total_bytes=release.total_bytes,
        current=release.version == current,
        permalink=f"/r/{run}?v={release.version}",
        withdrawn=None if withdrawal is None else withdrawal_view(withdrawal, release.version),
    )


def _error(run: str, gone: WithdrawalView, current: int, whole: bool) -> Withdrawn:
    what = run if whole else f"Version {gone.version} of {run}"
    day = gone.withdrawn_at.strftime("%Y-%m-%d %H:%M UTC")
    remedy = (
        f"Version {current} is the current one." if current else "Its name stays taken, and other runs may name it."
    )
    return Withdrawn(
        f"{what} was withdrawn on {day} by {gone.withdrawn_by}: {gone.reason}",
        remedy,
        run=run,
        version=gone.version,
        whole=whole,
        withdrawn_at=gone.withdrawn_at.isoformat().replace("+00:00", "Z"),
        withdrawn_by=gone.withdrawn_by,
        reason=gone.reason,
        current=current or None,
        purged=gone.purged_at is not None,
    )


def _utc(moment: datetime) -> datetime:
    """SQLite gives moments back without their zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
