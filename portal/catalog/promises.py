"""When what the portal promises was last looked after: files, history, findings, replays. Private runs count for who sees them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlmodel import Session, col

from portal.catalog.answers.promises import FilesLooked, HistoryLooked, Promises, RunsLooked
from portal.catalog.audit.heads import find_signed_head
from portal.catalog.audit.listing import as_moment, get_head
from portal.models import AuditEntry, File, FileLocation, Finding, Job, Release, Run

VERIFIED = "history.verified"
"""The entry that says the whole history was followed."""
WRONG = ("missing", "changed", "unreachable")


def read_promises(session: Session, verify_every: str, key_id: str | None) -> Promises:
    """A few counting queries, whatever the number of runs."""
    return Promises(_files(session), read_history(session), _runs(session), verify_every, key_id)


def read_history(session: Session) -> HistoryLooked:
    """How far the history has come, and when all of it was last followed."""
    head, signed = get_head(session), find_signed_head(session)
    checked = session.execute(
        select(col(AuditEntry.seq), col(AuditEntry.at_ms))
        .where(col(AuditEntry.action) == VERIFIED)
        .order_by(col(AuditEntry.seq).desc())
        .limit(1)
    ).first()
    return HistoryLooked(
        entries=head.seq,
        head=head.hash,
        signed_at=signed.signed_at if signed else None,
        verified_at=as_moment(checked.at_ms) if checked else None,
        # The entry itself was added after everything before it had been found good.
        verified_entries=checked.seq - 1 if checked else 0,
    )


def _current() -> Select[Any]:
    """Ids of the versions that are shown."""
    run = col(Run.id) == col(Release.run_id)
    return select(col(Release.id)).join(Run, run).where(col(Release.version) == col(Run.version))


def _files(session: Session) -> FilesLooked:
    rows = session.execute(
        select(
            col(FileLocation.state),
            func.count(),
            func.min(col(FileLocation.checked_at)),
            func.max(col(FileLocation.checked_at)),
        )
        .join(File, col(File.id) == col(FileLocation.file_id))
        .where(col(File.release_id).in_(_current()))
        .group_by(col(FileLocation.state))
    ).all()
    counts = {state: int(count) for state, count, _, _ in rows}
    oldest = [_utc(first) for _, _, first, _ in rows if first is not None]
    newest = [_utc(last) for _, _, _, last in rows if last is not None]
    return FilesLooked(
        total=sum(counts.values()),
        verified=counts.get("verified", 0),
        sampled=counts.get("sampled", 0),
        unverified=counts.get("unverified", 0),
        wrong=sum(counts.get(state, 0) for state in WRONG),
        oldest=min(oldest, default=None),
        newest=max(newest, default=None),
    )


def _runs(session: Session) -> RunsLooked:
    runs = session.execute(select(func.count(col(Run.id))).where(col(Run.version) > 0)).scalar_one()
    findings = session.execute(
        select(func.count(col(Finding.id))).where(col(Finding.state) == "open", col(Finding.release_id).in_(_current()))
    ).scalar_one()
    verdicts = dict(
        session.execute(
            select(col(Job.verdict), func.count(col(Job.id)))
            .where(col(Job.verdict).is_not(None))
            .group_by(col(Job.verdict))
        ).all()
    )
    return RunsLooked(int(runs), int(findings), sum(verdicts.values()), int(verdicts.get("exact", 0)))


def _utc(moment: datetime) -> datetime:
    """SQLite gives moments back without their zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
