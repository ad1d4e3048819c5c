"""People who sign in through an identity provider: known by who they are there, under a name that stays theirs here."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError as Clash
from sqlmodel import Session, col, select

from portal.catalog.accounts import MARK, NOBODY, TokenView, caller_of, digest_of, list_views
from portal.catalog.sessions import SessionTerms, SignedIn, add_session
from portal.database import Engine, open_session
from portal.errors import Conflict, Forbidden, Unauthorized
from portal.models import ApiToken, SpentNonce

SPENT_FOR = timedelta(days=2)
"""How long a used answer is remembered: much longer than any is good for."""
_NAME_LENGTH = 60
_TRIES = 20
_KEPT_NAMES = re.compile(r"^(anonymous|operator|portal|attempt\b.*)$", re.IGNORECASE)
"""Names under which the portal itself records what nobody in particular did."""


@dataclass(frozen=True)
class Vouched:
    """Whom an identity provider vouches for, as its checked answer says."""

    issuer: str
    subject: str
    name: str
    """What they call themselves; only the first time they come."""
    nonce: str
    """Of this answer, which is good for one sign-in."""
    role: str | None
    """As the operator's rules give it; None: no rule does."""
    organisation: str | None = None


def sign_in_person(engine: Engine, vouched: Vouched, terms: SessionTerms, before: str = "") -> tuple[str, SignedIn]:
    """A cookie's value for a person; what the browser had ``before`` ends. Their role is what the rules give them now.

    Raises Unauthorized for an answer that was used before, Forbidden for somebody without a role or whom an
    administrator has shut out. Somebody who lost their role is known to have, so that their tokens end, too.
    """
    with open_session(engine) as session:
        _spend(session, vouched.nonce)
        row = _person(session, vouched)
        caller = caller_of(session, row, datetime.now(UTC)) if row else None
        if caller is None or vouched.role is None:
            session.commit()
            raise _refusal(vouched, row)
        cookie, found = add_session(session, caller, terms, before)
        session.commit()
    return cookie, SignedIn(found.caller, found.expires_at, found.idle_until, vouched.issuer)


def list_people(session: Session) -> list[TokenView]:
    """Everybody who ever signed in through an identity provider, the newest first."""
    return list_views(session, session.exec(select(ApiToken).where(col(ApiToken.issuer).is_not(None))).all())


def _spend(session: Session, nonce: str) -> None:
    now = datetime.now(UTC)
    session.execute(delete(SpentNonce).where(col(SpentNonce.spent_at) < now - SPENT_FOR))
    session.add(SpentNonce(digest=digest_of(nonce), spent_at=now))
    try:
        session.flush()
    except Clash:
        raise Unauthorized("This answer of the identity provider was used before.", "Sign in again.") from None


def _person(session: Session, vouched: Vouched) -> ApiToken | None:
    """Their row with the role they have now, made the first time; None for a stranger without a role."""
    now = datetime.now(UTC)
    mine = (col(ApiToken.issuer) == vouched.issuer) & (col(ApiToken.subject) == vouched.subject)
    role = vouched.role or NOBODY
    granted = update(ApiToken).values(role=role, organisation=vouched.organisation, last_used_at=now)
    session.execute(granted.where(mine))
    known = session.exec(select(ApiToken).where(mine)).first()
    if known is not None or vouched.role is None:
        return known
    row = ApiToken(
        # Of a secret that nobody has.
        digest=digest_of(MARK + secrets.token_urlsafe(32)),
        name=_free_name(session, vouched.name),
        issuer=vouched.issuer,
        subject=vouched.subject,
        role=role,
        organisation=vouched.organisation,
        created_at=now,
        last_used_at=now,
    )
    session.add(row)
    try:
        session.flush()
    except Clash:
        raise Conflict("Somebody signed in at the same moment.", "Sign in again.") from None
    return row


def _free_name(session: Session, wished: str) -> str:
    """A name nobody has, nor has ever made tokens under; no slash, as that begins the names of its tokens."""
    plain = "".join(c for c in wished if c.isprintable()).replace("/", "-").strip()[:_NAME_LENGTH].strip()
    plain = "person" if not plain or _KEPT_NAMES.match(plain) else plain
    for number in range(1, _TRIES):
        name = plain if number == 1 else f"{plain}-{number}"
        taken = (col(ApiToken.name) == name) | col(ApiToken.name).startswith(f"{name}/", autoescape=True)
        if session.exec(select(ApiToken.id).where(taken)).first() is None:
            return name
    return f"{plain}-{secrets.token_hex(6)}"


def _refusal(vouched: Vouched, row: ApiToken | None) -> Forbidden:
    if row is not None and row.revoked_at is not None:
        return Forbidden(f"{row.name} was shut out of this portal.", "Ask its operator.")
    return Forbidden(
        f"You signed in as {vouched.name[:100]}, whom this portal gives no role.",
        "Ask its operator: roles follow from what the identity provider says (PORTAL_OIDC_ROLES).",
    )
