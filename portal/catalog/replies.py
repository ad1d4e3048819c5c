"""Idempotency keys: the answer to a request is kept in the transaction that did what it asked for.

So a request that is sent again, because its answer was lost, gets the answer of the first one, whatever became of the
process in between. Refused requests are not kept: what was refused may be asked again under the same key.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete
from sqlmodel import Session, col, select

from portal.database import Engine, open_session
from portal.errors import BadRequest, IdempotencyKeyReused
from portal.models import KeptReply

KEPT_FOR = timedelta(hours=72)
_KEY = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True)
class Request:
    """A request that may be sent again."""

    caller: str
    key: str
    digest: str
    """sha256 of what was asked."""

    @classmethod
    def of(cls, caller: str, key: str, method: str, path: str, body: bytes) -> Request:
        """BadRequest for a key that cannot be kept."""
        if not _KEY.fullmatch(key):
            raise BadRequest("An Idempotency-Key is 1 to 200 visible ASCII characters.", "A random UUID does.")
        return cls(caller, key, hashlib.sha256(f"{method} {path}\n".encode() + body).hexdigest())


def find_reply(engine: Engine, request: Request) -> tuple[int, str] | None:
    """Status and body that were answered to it; IdempotencyKeyReused where the key came with another request."""
    with open_session(engine) as session:
        return find_kept(session, request)


def find_kept(session: Session, request: Request) -> tuple[int, str] | None:
    """The same as this session sees it."""
    found = session.exec(
        select(KeptReply).where(KeptReply.caller == request.caller, KeptReply.key == request.key)
    ).first()
    if found is None:
        return None
    if found.request != request.digest:
        raise IdempotencyKeyReused("This Idempotency-Key came with another request before.", "Make a new key.")
    return found.status, found.body


def keep_reply(session: Session, request: Request, status: int, body: str) -> None:
    """Keep an answer in the caller's transaction, and forget those nobody asks for any more."""
    now = datetime.now(UTC)
    session.execute(delete(KeptReply).where(col(KeptReply.created_at) < now - KEPT_FOR))
    session.add(
        KeptReply(
            caller=request.caller, key=request.key, request=request.digest, status=status, body=body, created_at=now
        )
    )
    session.flush()
