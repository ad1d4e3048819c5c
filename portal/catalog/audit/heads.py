"""Signed heads: kept beside the history, and as far apart from it as somebody cares to keep them."""

from __future__ import annotations

import time
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from portal.catalog.answers.audit import HeadView
from portal.catalog.audit.listing import as_moment
from portal.models import AuditEntry, AuditHead
from portal.signing.envelopes import STATEMENT, Document, sign
from portal.signing.heads import PREDICATE
from portal.signing.keys import SigningKey

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_HEADS: Any = AuditHead.__table__  # type: ignore[attr-defined]


def sign_head(head: HeadView, key: SigningKey) -> Document:
    """The envelope over a head; the same head and key always make the same one."""
    at = head.at.isoformat(timespec="milliseconds") if head.at else None
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": "history", "digest": {"sha256": head.hash}}],
        "predicateType": PREDICATE,
        "predicate": {"seq": head.seq, "hash": head.hash, "at": at},
    }
    return sign(statement, key)


def keep_head(session: Session, head: HeadView, key: SigningKey) -> bool:
    """Keep a signature over ``head``; False where this key has signed this one before. The caller commits."""
    values = {
        "seq": head.seq,
        "hash": head.hash,
        "key_id": key.public.key_id,
        "signed_ms": time.time_ns() // 1_000_000,
        "envelope": orjson.dumps(sign_head(head, key)).decode(),
    }
    added = _INSERTS[session.get_bind().dialect.name](_HEADS).values(**values)
    done = session.execute(added.on_conflict_do_nothing(index_elements=["seq", "key_id"]).returning(col(AuditHead.id)))
    return done.scalar() is not None


def find_signed_head(session: Session) -> HeadView | None:
    """The newest head that was signed and kept; None where none ever was."""
    asked = select(_HEADS, col(AuditEntry.at_ms)).join(
        AuditEntry, col(AuditEntry.seq) == col(AuditHead.seq), isouter=True
    )
    row = session.execute(asked.order_by(col(AuditHead.seq).desc(), col(AuditHead.id).desc()).limit(1)).first()
    if row is None:
        return None
    at = None if row.at_ms is None else as_moment(row.at_ms)
    return HeadView(row.seq, row.hash, at, row.key_id, as_moment(row.signed_ms), orjson.loads(row.envelope))


def list_kept_heads(session: Session) -> list[tuple[int, str, str, str]]:
    """(seq, hash, key id, envelope) of every head that was signed and kept, the oldest first."""
    asked = select(col(AuditHead.seq), col(AuditHead.hash), col(AuditHead.key_id), col(AuditHead.envelope))
    return [tuple(row) for row in session.execute(asked.order_by(col(AuditHead.seq), col(AuditHead.id)))]
