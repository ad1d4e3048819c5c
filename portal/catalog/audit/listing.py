"""The history as lists show it: the newest entry first, and each reader sees what they may."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, func, select
from sqlmodel import Session, col

from portal.catalog.accounts import Caller
from portal.catalog.answers import Page
from portal.catalog.answers.audit import EntryView, HeadView
from portal.catalog.audit.chain import GENESIS
from portal.catalog.paging import check_limit, check_text
from portal.catalog.sight import current_sight, hidden_runs
from portal.errors import BadRequest, NotFound
from portal.models import AuditEntry

_ENTRIES: Any = AuditEntry.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class EntryFilter:
    """Which entries; empty members ask for all."""

    run: str = ""
    actor: str = ""
    action: str = ""
    """``job.submitted``, or ``job`` for everything about jobs."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """As the database is asked. BadRequest for a NUL."""
        found: list[ColumnElement[bool]] = []
        if self.run:
            found.append(col(AuditEntry.run) == check_text(self.run, "run"))
        if self.actor:
            found.append(col(AuditEntry.actor) == check_text(self.actor, "actor"))
        if self.action:
            action = check_text(self.action, "action")
            kind = col(AuditEntry.action).startswith(f"{action}.", autoescape=True)
            found.append((col(AuditEntry.action) == action) | kind)
        return found


def list_entries(
    session: Session,
    caller: Caller | None,
    wanted: EntryFilter = EntryFilter(),
    limit: int = 100,
    cursor: str | None = None,
) -> Page[EntryView]:
    """The newest first; the cursor is the seq of the last one shown.

    Administrators of the whole portal see all, others what is about runs they may see and what they did themselves.
    """
    check_limit(limit)
    conditions = wanted.conditions() + _visible_to(caller)
    total = session.execute(select(func.count()).select_from(_ENTRIES).where(*conditions)).scalar_one()
    chosen = select(_ENTRIES).where(*conditions)
    if cursor is not None:
        chosen = chosen.where(col(AuditEntry.seq) < _read_cursor(cursor))
    rows = session.execute(chosen.order_by(col(AuditEntry.seq).desc()).limit(limit + 1)).all()
    items = [entry_view(row) for row in rows[:limit]]
    return Page(items, int(total), str(items[-1].seq) if len(rows) > limit else None)


def list_actions(session: Session, caller: Caller | None) -> list[str]:
    """The actions there are entries of, by name."""
    asked = select(col(AuditEntry.action)).where(*_visible_to(caller)).distinct()
    return sorted(session.execute(asked).scalars())


def get_head(session: Session) -> HeadView:
    """The newest entry."""
    asked = select(col(AuditEntry.seq), col(AuditEntry.hash), col(AuditEntry.at_ms))
    row = session.execute(asked.order_by(col(AuditEntry.seq).desc()).limit(1)).first()
    return HeadView(0, GENESIS, None) if row is None else HeadView(row.seq, row.hash, as_moment(row.at_ms))


def get_entry(session: Session, seq: int) -> EntryView:
    """One entry; NotFound where the history has not come so far."""
    row = session.execute(select(_ENTRIES).where(col(AuditEntry.seq) == seq)).first()
    if row is None:
        raise NotFound(f"The history has no entry {seq}.", "See /history for those there are.")
    return entry_view(row)


def entry_view(row: Row[Any]) -> EntryView:
    """An entry as answers show it."""
    detail = orjson.loads(row.detail)
    return EntryView(
        row.seq,
        as_moment(row.at_ms),
        row.at_ms,
        row.actor,
        row.action,
        row.object,
        row.run,
        detail,
        row.prev,
        row.hash,
    )


def as_moment(at_ms: int) -> datetime:
    """Milliseconds since 1970 as a moment."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _visible_to(caller: Caller | None) -> list[ColumnElement[bool]]:
    sight = current_sight()
    # Outside of requests, and on a socket that only the operator reaches, nobody in particular asks and sees everything.
    if sight.everything and (caller is None or caller.reaches("admin")):
        return []
    seen: ColumnElement[bool] = col(AuditEntry.run).is_not(None)
    if not sight.everything:
        seen = seen & col(AuditEntry.run).not_in(hidden_runs(sight))
    if caller is None or caller.token_id is None:
        return [seen]
    return [seen | (col(AuditEntry.actor) == caller.name)]


def _read_cursor(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise BadRequest("The cursor is not one this portal handed out.", "Start again without it.", parameter="cursor")
    return int(cursor)
