"""API tokens: made, listed, revoked, and recognised again.

A token is ``llm360_`` and 256 random bits; the catalog keeps its sha256, so a copy of the
database opens nothing. Roles and what they reach are in `ROLES`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError as Clash
from sqlmodel import Session, col, select

from portal.database import Engine, open_session
from portal.errors import Conflict, Forbidden, NotFound, UsageError
from portal.models import ApiToken

MARK = "llm360_"
"""Begins every token, so that scanners of leaked secrets can know one."""
ROLES: dict[str, frozenset[str]] = {
    "reader": frozenset({"reader"}),
    "publisher": frozenset({"reader", "publisher", "uploader"}),
    "reviewer": frozenset({"reader", "reviewer"}),
    "worker": frozenset({"worker", "uploader"}),
    "admin": frozenset({"reader", "publisher", "reviewer", "worker", "uploader", "admin"}),
}
"""The roles of tokens, each with the roles of routes that it reaches."""
ATTEMPT = "attempt"
"""The role of an attempt's own secret: nobody can make a token of it."""
ATTEMPT_REACHES = frozenset({"uploader"})
_ORGANISATION = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
_NAME_LENGTH = 100
_SHOWN = len(MARK) + 6
_USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    token_id: int | None
    """None: somebody without a token, who is let in by a setting."""
    name: str
    role: str
    organisation: str | None = None

    def reaches(self, role: str) -> bool:
        """Whether what needs ``role`` is open to this caller."""
        return role in (ATTEMPT_REACHES if self.role == ATTEMPT else ROLES.get(self.role, ()))

    def check_organisation(self, run: str) -> None:
        """Forbidden when ``run`` (``org/name``) is not among the runs this caller may change."""
        organisation = run.partition("/")[0]
        if self.organisation is not None and self.organisation != organisation:
            raise Forbidden(
                f"This token may change runs of {self.organisation}, not of {organisation}.",
                "Ask the portal's operator for a token of that organisation.",
            )


@dataclass(frozen=True)
class TokenView:
    """A token as it is listed: everything but the secret."""

    name: str
    prefix: str
    role: str
    organisation: str | None
    state: str
    """``active``, ``expired`` or ``revoked``."""
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To the minute; None: never."""


def create_token(
    engine: Engine,
    role: str,
    name: str | None = None,
    organisation: str | None = None,
    lifetime: timedelta | None = None,
) -> tuple[str, TokenView]:
    """A new token: its secret, which is shown this once, and how it is listed.

    Raises UsageError for an unknown role or a name that cannot be used, Conflict for a name that was
    used before: what is recorded under a name stays one holder's.
    """
    if role not in ROLES:
        raise UsageError(f"{role!r} is no role.", f"Roles are {', '.join(ROLES)}.", parameter="role")
    if organisation is not None and not _ORGANISATION.match(organisation):
        raise UsageError(f"{organisation[:100]!r} cannot be an organisation's name.", parameter="organisation")
    secret = MARK + secrets.token_urlsafe(32)
    name = f"{role}-{secret[len(MARK) : _SHOWN].lower()}" if name is None else name.strip()
    if not name or len(name) > _NAME_LENGTH or not name.isprintable():
        raise UsageError("A token's name is 1 to 100 printable characters.", parameter="name")
    now = datetime.now(UTC)
    row = ApiToken(
        digest=_digest(secret),
        prefix=secret[:_SHOWN],
        name=name,
        role=role,
        organisation=organisation,
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
    )
    try:
        with open_session(engine) as session:
            session.add(row)
            session.commit()
            return secret, _view(row, now)
    except Clash:
        raise Conflict(f"There was a token named {name!r} already.", "Choose another name.") from None


def list_tokens(session: Session) -> list[TokenView]:
    """All tokens ever made, the newest first."""
    now = datetime.now(UTC)
    return [_view(row, now) for row in session.exec(select(ApiToken).order_by(col(ApiToken.id).desc()))]


def revoke_token(engine: Engine, which: str) -> TokenView:
    """End the token of this name or prefix, for ever; NotFound when no single one is meant."""
    now = datetime.now(UTC)
    with open_session(engine) as session:
        found = session.exec(
            select(ApiToken).where((col(ApiToken.name) == which) | (col(ApiToken.prefix) == which))
        ).all()
        if len(found) != 1:
            raise NotFound(
                f"{'No' if not found else 'More than one'} token is {which[:100]!r}.", "See `portal token list`."
            )
        found[0].revoked_at = found[0].revoked_at or now
        session.add(found[0])
        session.commit()
        return _view(found[0], now)


def find_caller(session: Session, secret: str) -> Caller | None:
    """Whose token this is; None when it is unknown, expired or revoked. Commits when it was last used."""
    if not secret.startswith(MARK) or len(secret) > 200:
        return None
    row = session.exec(select(ApiToken).where(col(ApiToken.digest) == _digest(secret))).first()
    now = datetime.now(UTC)
    caller = None if row is None else caller_of(row, now)
    if row is None or caller is None:
        return None
    if row.last_used_at is None or now - _utc(row.last_used_at) >= _USED_EVERY:
        # SQLite refuses to turn a transaction that has read into a writing one once somebody else has written, which
        # requests with the same token do at the same moment.
        session.rollback()
        session.execute(update(ApiToken).where(col(ApiToken.id) == caller.token_id).values(last_used_at=now))
        session.commit()
    return caller


def caller_of(row: ApiToken, now: datetime) -> Caller | None:
    """Whose token this row is; None once it has expired or was revoked."""
    return Caller(row.id, row.name, row.role, row.organisation) if _view(row, now).state == "active" else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _view(row: ApiToken, now: datetime) -> TokenView:
    expired = row.expires_at is not None and _utc(row.expires_at) <= now
    state = "revoked" if row.revoked_at is not None else "expired" if expired else "active"
    return TokenView(
        row.name, row.prefix, row.role, row.organisation, state, row.created_at, row.expires_at, row.last_used_at
    )


def _utc(moment: datetime) -> datetime:
    """SQLite gives moments back without their zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
