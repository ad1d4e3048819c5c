"""Browsers that signed in: a random cookie stands for a token until it expires, is signed out, or the token ends."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete
from sqlmodel import Session, col, select

from portal.catalog.accounts import Caller, caller_of, find_caller
from portal.database import Engine, open_session
from portal.errors import Unauthorized
from portal.models import ApiToken, BrowserSession

LIFETIME = timedelta(days=7)
_LENGTH = 100


@dataclass(frozen=True)
class SignedIn:
    """Who signed in, and until when."""

    caller: Caller
    expires_at: datetime


def begin_session(engine: Engine, token: str, lifetime: timedelta = LIFETIME) -> tuple[str, SignedIn]:
    """A cookie's value for the holder of ``token``. Unauthorized for one that is unknown, expired or revoked."""
    now = datetime.now(UTC)
    with open_session(engine) as session:
        caller = find_caller(session, token)
    if caller is None or caller.token_id is None:
        raise Unauthorized("This token is unknown, expired or revoked.", "Ask the portal's operator for a new one.")
    cookie, until = secrets.token_urlsafe(32), now + lifetime
    with open_session(engine) as session:
        # A write comes first: SQLite lets no transaction that has read begin to write.
        session.execute(delete(BrowserSession).where(col(BrowserSession.expires_at) <= now))
        session.add(BrowserSession(digest=_digest(cookie), token_id=caller.token_id, created_at=now, expires_at=until))
        session.commit()
    return cookie, SignedIn(caller, until)


def find_session(session: Session, cookie: str) -> SignedIn | None:
    """Whose cookie this is; None when it is unknown or expired, or its token is no longer good."""
    if not 0 < len(cookie) <= _LENGTH:
        return None
    joined = select(BrowserSession, ApiToken).join(ApiToken, col(ApiToken.id) == col(BrowserSession.token_id))
    found = session.exec(joined.where(col(BrowserSession.digest) == _digest(cookie))).first()
    now = datetime.now(UTC)
    if found is None:
        return None
    until = found[0].expires_at if found[0].expires_at.tzinfo else found[0].expires_at.replace(tzinfo=UTC)
    caller = caller_of(found[1], now)
    return None if caller is None or until <= now else SignedIn(caller, until)


def end_session(engine: Engine, cookie: str) -> None:
    """Sign out; an unknown cookie is nothing to complain of."""
    with open_session(engine) as session:
        session.execute(delete(BrowserSession).where(col(BrowserSession.digest) == _digest(cookie)))
        session.commit()


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()
