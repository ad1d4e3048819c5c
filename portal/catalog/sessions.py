"""Browsers that signed in: a random cookie stands for a token or a person until it is old, idle or signed out, or they end."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from portal.catalog.accounts import Caller, caller_of, digest_of, find_caller, in_utc
from portal.catalog.audit.writing import put_on_record
from portal.database import Engine, open_session
from portal.errors import Unauthorized
from portal.models import ApiToken, BrowserSession

LIFETIME = timedelta(days=7)
IDLE = timedelta(days=1)
_LENGTH = 100
_SEEN_PARTS = 20
"""When it was last asked with is written down this often at most while a browser is idle, so that reading rarely writes."""


@dataclass(frozen=True)
class SignedIn:
    """Who signed in, and until when."""

    caller: Caller
    expires_at: datetime
    idle_until: datetime | None = None
    """Ends then unless it is used before; None: only at ``expires_at``."""
    issuer: str | None = None
    """The identity provider they came from; None: they brought a token."""


@dataclass(frozen=True)
class SessionTerms:
    """How long browsers stay signed in."""

    lifetime: timedelta = LIFETIME
    idle: timedelta = IDLE
    """Zero: as long as the lifetime."""


def begin_session(
    engine: Engine, token: str, lifetime: timedelta = LIFETIME, idle: timedelta = IDLE, before: str = ""
) -> tuple[str, SignedIn]:
    """A cookie's value for the holder of ``token``; what the browser had ``before`` ends. Unauthorized for a token that
    is unknown, expired or revoked."""
    with open_session(engine) as session:
        caller = find_caller(session, token)
    if caller is None or caller.token_id is None:
        raise Unauthorized("This token is unknown, expired or revoked.", "Ask the portal's operator for a new one.")
    with open_session(engine) as session:
        cookie, found = add_session(session, caller, SessionTerms(lifetime, idle), before)
        session.commit()
    return cookie, found


def add_session(session: Session, caller: Caller, terms: SessionTerms, before: str = "") -> tuple[str, SignedIn]:
    """Write a session in the caller's transaction: the cookie's value, always a new one, and what it stands for."""
    now = datetime.now(UTC)
    cookie, until = secrets.token_urlsafe(32), now + terms.lifetime
    # A write comes first: SQLite lets no transaction that has read begin to write.
    gone = (col(BrowserSession.expires_at) <= now) | (col(BrowserSession.digest) == digest_of(before))
    session.execute(delete(BrowserSession).where(gone))
    idle = int(terms.idle.total_seconds())
    session.add(
        BrowserSession(
            digest=digest_of(cookie), token_id=caller.token_id or 0, created_at=now, expires_at=until, idle_seconds=idle
        )
    )
    session.flush()
    told = {"role": caller.role, "organisation": caller.organisation}
    put_on_record(session, "session.began", caller.name, f"token:{caller.name}", None, told)
    return cookie, SignedIn(caller, until, now + terms.idle if idle else None)


def find_session(session: Session, cookie: str) -> SignedIn | None:
    """Whose cookie this is; None when it is unknown, expired or was idle too long, or its token is no longer good.

    Commits, now and then, when it was last seen.
    """
    if not 0 < len(cookie) <= _LENGTH:
        return None
    joined = select(BrowserSession, ApiToken).join(ApiToken, col(ApiToken.id) == col(BrowserSession.token_id))
    found = session.exec(joined.where(col(BrowserSession.digest) == digest_of(cookie))).first()
    now = datetime.now(UTC)
    if found is None:
        return None
    row, token = found
    until, idle = in_utc(row.expires_at), timedelta(seconds=row.idle_seconds)
    seen = in_utc(row.seen_at or row.created_at)
    caller = caller_of(session, token, now)
    if caller is None or until <= now or (idle and seen + idle <= now):
        return None
    answer = SignedIn(caller, until, min(now + idle, until) if idle else None, token.issuer)
    if idle and now - seen >= idle / _SEEN_PARTS:
        # As in `find_caller`: the reading transaction ends before the writing one begins.
        key = row.id
        session.rollback()
        session.execute(update(BrowserSession).where(col(BrowserSession.id) == key).values(seen_at=now))
        session.commit()
    return answer


def end_session(engine: Engine, cookie: str) -> None:
    """Sign out; an unknown cookie is nothing to complain of."""
    with open_session(engine) as session:
        mine = delete(BrowserSession).where(col(BrowserSession.digest) == digest_of(cookie))
        token_id = session.execute(mine.returning(col(BrowserSession.token_id))).scalar()
        if token_id is not None:
            name = session.exec(select(ApiToken.name).where(col(ApiToken.id) == token_id)).one()
            put_on_record(session, "session.ended", name, f"token:{name}")
        session.commit()


def end_other_sessions(engine: Engine, caller: Caller, cookie: str) -> int:
    """Sign out every other browser of this caller: how many there were."""
    with open_session(engine) as session:
        mine = col(BrowserSession.token_id) == caller.token_id
        ended = session.execute(
            delete(BrowserSession)
            .where(mine, col(BrowserSession.digest) != digest_of(cookie))
            .returning(col(BrowserSession.id))
        ).all()
        if ended:
            put_on_record(
                session, "session.ended", caller.name, f"token:{caller.name}", None, {"other_browsers": len(ended)}
            )
        session.commit()
    return len(ended)
