"""How entries get into the history: in the very transaction that makes the change, as the last thing before it commits.

Entries wait in the session until then, so that the one lock all writers share is held for two short statements, and
nothing else is waited for while it is held: two transactions that lock rows in different order cannot block each other
through it. What is rolled back leaves no entry.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, event, false, insert, select, text
from sqlmodel import Session, col

from portal.catalog.audit.chain import GENESIS, Change, link, written_detail
from portal.catalog.rows import storable
from portal.models import AuditEntry

OPERATOR = "operator"
"""Whoever works on the portal's own machine, with its commands."""
PORTAL = "portal"
"""The portal itself, on a schedule or because a lease ran out."""
NAMED_BY_THE_PORTAL = frozenset({OPERATOR, PORTAL, "anonymous"})
"""Actors that are no token's holder; no token may bear these names."""

_WAITING = "history"
_LOCK = 0x686973746F7279
"""Names the lock among the advisory locks of a PostgreSQL database."""
_ENTRIES: Any = AuditEntry.__table__  # type: ignore[attr-defined]


def put_on_record(  # noqa: PLR0913 - the columns of an entry
    session: Session,
    action: str,
    actor: str,
    what: str,
    run: str | None = None,
    detail: Mapping[str, Any] | None = None,
    at_ms: int | None = None,
) -> None:
    """Let the transaction of ``session`` leave an entry when it commits: ``actor`` did ``action`` to ``what``.

    ``what`` is written ``kind:name``; ``run`` is ``org/name`` where it is about a run. Nothing secret goes in.
    """
    at = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    change = Change(at, storable(actor), action, storable(what), run and storable(run), written_detail(detail or {}))
    waiting: list[Change] | None = session.info.get(_WAITING)
    if waiting is None:
        waiting = session.info[_WAITING] = []
        event.listen(session, "before_commit", _append_waiting)
        event.listen(session, "after_transaction_end", _forget_waiting)
    if not session.in_transaction():
        # So that a rollback ends a transaction, and the entry with it, where nothing was asked of the database yet.
        session.begin()
    waiting.append(change)


def append_changes(session: Session, changes: Sequence[Change]) -> tuple[int, str]:
    """Write entries at the end of the chain; (seq, hash) of the last. Only the commit may follow in the transaction."""
    seq, prev = _lock_end(session)
    rows = []
    for change in changes:
        seq += 1
        bound = link(prev, seq, change)
        rows.append({"seq": seq, "prev": prev, **vars(change), "hash": bound})
        prev = bound
    session.execute(insert(_ENTRIES), rows)
    return seq, prev


def _append_waiting(session: Session) -> None:
    waiting: list[Change] = session.info[_WAITING]
    if not waiting or session.in_nested_transaction():
        return
    # Whatever the session still holds back is written first, so that nothing is locked after the chain is.
    session.flush()
    changes = waiting[:]
    waiting.clear()
    append_changes(session, changes)


def _forget_waiting(session: Session, transaction: Any) -> None:
    if transaction.parent is None:
        session.info[_WAITING].clear()


def _lock_end(session: Session) -> tuple[int, str]:
    """Keep other writers out until the transaction ends; (seq, hash) of the newest entry."""
    if session.get_bind().dialect.name == "sqlite":
        # Takes the database's one write lock, where the transaction has not yet; no row is touched.
        session.execute(delete(_ENTRIES).where(false()))
    else:
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    newest = select(col(AuditEntry.seq), col(AuditEntry.hash)).order_by(col(AuditEntry.seq).desc()).limit(1)
    row = session.execute(newest).first()
    return (0, GENESIS) if row is None else (row.seq, row.hash)
