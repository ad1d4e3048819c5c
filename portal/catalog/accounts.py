"""API tokens: made, listed, revoked, and recognised again.

A token is ``llm360_`` and 256 random bits; the catalog keeps its sha256, so a copy of the
database opens nothing. Roles and what they reach are in `ROLES`. What people make of their own
is in `own_tokens`, who signs in through an identity provider in `people`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError as Clash
from sqlmodel import Session, col, select

from portal.catalog.audit.writing import NAMED_BY_THE_PORTAL, OPERATOR, put_on_record
from portal.database import DatabaseDown, Engine, open_session
from portal.errors import Conflict, Forbidden, NotFound, UsageError
from portal.models import ApiToken, BrowserSession

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
NOBODY = "none"
"""The role of a person whom the identity provider vouches for, but to whom no rule gives a role any more."""
WHOLE_PORTAL = ("worker", "admin")
"""Roles that cannot be bound to single runs."""
ORGANISATION = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
_RUN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
_MAX_RUNS = 100
_NAME_LENGTH = 100
_SHOWN = len(MARK) + 6
_USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    token_id: int | None
    """Of the token, or the person; None: somebody without either, who is let in by a setting."""
    name: str
    role: str
    organisation: str | None = None
    runs: tuple[str, ...] = ()
    """The only runs (``org/name``) it is good for, inside its organisation; empty: all."""
    job: int | None = None
    """Of an attempt: the job it is of."""

    def reaches(self, role: str) -> bool:
        """Whether what needs ``role`` is open to this caller."""
        return role in (ATTEMPT_REACHES if self.role == ATTEMPT else ROLES.get(self.role, ()))

    def covers(self, run: str) -> bool:
        """Whether ``run`` (``org/name``) is among those this caller is good for."""
        if self.organisation is not None and self.organisation != run.partition("/")[0]:
            return False
        return not self.runs or run in self.runs

    def check_organisation(self, run: str) -> None:
        """Forbidden when ``run`` (``org/name``) is not among the runs this caller may change."""
        if self.covers(run):
            return
        bound = ", ".join(self.runs[:3]) + (", …" if len(self.runs) > 3 else "")
        what = f"{bound}, not {run}" if self.runs else f"runs of {self.organisation}, not of {run.partition('/')[0]}"
        raise Forbidden(f"This token may change {what}.", "Use a token that is good for it.")

    def owns(self, name: str) -> bool:
        """Whether what is recorded under ``name`` is this caller's: its own, or of a token made with it."""
        return name == self.name or name.startswith(f"{self.name}/")


@dataclass(frozen=True)
class TokenView:
    """A token as it is listed: everything but the secret."""

    name: str
    prefix: str
    role: str
    organisation: str | None
    state: str
    """``active``, ``expired``, ``revoked``, or ``withheld``: it reaches more than its maker does now, or, of a person,
    no rule gives them a role any more."""
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    """To the minute; None: never."""
    runs: list[str]
    """The only runs it is good for; empty: all."""
    id: int
    made_by: str | None
    """Name of the token or person it was made with; None: made where the portal runs."""
    issuer: str | None = None
    """Of a person, who is listed like a token: the identity provider."""


@dataclass(frozen=True)
class TokenTerms:
    """What a token is to be good for."""

    role: str
    organisation: str | None = None
    runs: tuple[str, ...] = ()
    lifetime: timedelta | None = None


def create_token(
    engine: Engine,
    role: str,
    name: str | None = None,
    organisation: str | None = None,
    lifetime: timedelta | None = None,
    runs: Sequence[str] = (),
) -> tuple[str, TokenView]:
    """A new token: its secret, which is shown this once, and how it is listed.

    Raises UsageError for an unknown role or a name that cannot be used, Conflict for a name that was
    used before: what is recorded under a name stays one holder's.
    """
    terms = TokenTerms(role, organisation, tuple(dict.fromkeys(runs)), lifetime)
    check_terms(terms)
    with open_session(engine) as session:
        secret, row = add_token(session, terms, name)
        session.commit()
        return secret, view_of(row, None, datetime.now(UTC))


def add_token(
    session: Session, terms: TokenTerms, name: str | None, maker: ApiToken | None = None
) -> tuple[str, ApiToken]:
    """Write a token in the caller's transaction: its secret and its row. Names of those made with another one begin
    with that one's. UsageError, Conflict as for `create_token`."""
    secret = MARK + secrets.token_urlsafe(32)
    called = f"{terms.role}-{secret[len(MARK) : _SHOWN].lower()}" if name is None else name.strip()
    if not called or len(called) > _NAME_LENGTH or not called.isprintable():
        raise UsageError("A token's name is 1 to 100 printable characters.", parameter="name")
    if called.lower() in NAMED_BY_THE_PORTAL:
        raise UsageError(f"{called!r} is how the portal names itself and its operator.", "Choose another name.")
    if maker is not None and "/" in called:
        raise UsageError("A token's name holds no slash.", "Choose another name.", parameter="name")
    now = datetime.now(UTC)
    row = ApiToken(
        digest=digest_of(secret),
        prefix=secret[:_SHOWN],
        name=called if maker is None else f"{maker.name}/{called}",
        role=terms.role,
        organisation=terms.organisation,
        runs=list(terms.runs),
        maker_id=maker.id if maker else None,
        created_at=now,
        expires_at=None if terms.lifetime is None else now + terms.lifetime,
    )
    try:
        session.add(row)
        session.flush()
    except Clash:
        raise Conflict(f"There was a token named {called!r} already.", "Choose another name.") from None
    told = {"role": row.role, "organisation": row.organisation, "runs": row.runs}
    told["expires_at"] = row.expires_at.isoformat() if row.expires_at else None
    put_on_record(session, "token.created", maker.name if maker else OPERATOR, f"token:{row.name}", None, told)
    return secret, row


def check_terms(terms: TokenTerms) -> None:
    """UsageError for a role, organisation or run that no token can have."""
    if terms.role not in ROLES:
        raise UsageError(f"{terms.role[:100]!r} is no role.", f"Roles are {', '.join(ROLES)}.", parameter="role")
    if terms.organisation is not None and not ORGANISATION.match(terms.organisation):
        raise UsageError(f"{terms.organisation[:100]!r} cannot be an organisation's name.", parameter="organisation")
    if terms.runs and terms.role in WHOLE_PORTAL:
        raise UsageError(f"A token of role {terms.role} is not bound to single runs.", parameter="runs")
    if len(terms.runs) > _MAX_RUNS:
        raise UsageError("A token is bound to at most 100 runs.", "Bind it to their organisation.", parameter="runs")
    for run in terms.runs:
        if not _RUN.match(run):
            raise UsageError(f"{run[:200]!r} is no run.", "Write it as org/name.", parameter="runs")
        if terms.organisation not in (None, run.partition("/")[0]):
            raise UsageError(f"{run} is no run of {terms.organisation}.", parameter="runs")


def list_tokens(session: Session) -> list[TokenView]:
    """All tokens ever made, the newest first."""
    return list_views(session, session.exec(select(ApiToken).where(col(ApiToken.issuer).is_(None))).all())


def list_views(session: Session, rows: Sequence[ApiToken]) -> list[TokenView]:
    """Tokens as they are listed, the newest first."""
    now = datetime.now(UTC)
    makers = _makers(session, rows)
    ordered = sorted(rows, key=lambda row: -(row.id or 0))
    return [view_of(row, makers.get(row.maker_id or 0), now) for row in ordered]


def revoke_token(engine: Engine, which: str) -> TokenView:
    """End the token (or person) of this name or prefix, and all that was made with it, for ever; NotFound when no
    single one is meant."""
    with open_session(engine) as session:
        named = (col(ApiToken.name) == which) | (col(ApiToken.prefix) == (which or "-"))
        found = session.exec(select(ApiToken).where(named)).all()
        if len(found) != 1:
            raise NotFound(
                f"{'No' if not found else 'More than one'} token is {which[:100]!r}.", "See `portal token list`."
            )
        key = found[0].id or 0
        session.rollback()
        end_token(session, key, OPERATOR)
        session.commit()
        return list_views(session, [session.get_one(ApiToken, key)])[0]


def end_token(session: Session, key: int, by: str) -> None:
    """Revoke it in the caller's transaction, with what was made with it and the browsers that signed in with either."""
    now = datetime.now(UTC)
    meant = (col(ApiToken.id) == key) | (col(ApiToken.maker_id) == key)
    active = update(ApiToken).where(meant, col(ApiToken.revoked_at).is_(None)).values(revoked_at=now)
    if names := sorted(session.execute(active.returning(col(ApiToken.name))).scalars()):
        put_on_record(session, "token.revoked", by, f"token:{names[0]}", None, {"with_it": names[1:]})
    ended = select(ApiToken.id).where(meant)
    session.execute(delete(BrowserSession).where(col(BrowserSession.token_id).in_(ended)))


def find_caller(session: Session, secret: str) -> Caller | None:
    """Whose token this is; None when it is unknown, expired or revoked. Commits when it was last used."""
    if not secret.startswith(MARK) or len(secret) > 200:
        return None
    row = session.exec(select(ApiToken).where(col(ApiToken.digest) == digest_of(secret))).first()
    now = datetime.now(UTC)
    caller = None if row is None else caller_of(session, row, now)
    if row is None or caller is None:
        return None
    if row.last_used_at is None or now - in_utc(row.last_used_at) >= _USED_EVERY:
        # SQLite refuses to turn a transaction that has read into a writing one once somebody else has written, which
        # requests with the same token do at the same moment.
        session.rollback()
        try:
            session.execute(update(ApiToken).where(col(ApiToken.id) == caller.token_id).values(last_used_at=now))
            session.commit()
        except DatabaseDown:
            # Neither a full disk nor a busy writer keeps a good token from reading.
            session.rollback()
    return caller


def caller_of(session: Session, row: ApiToken, now: datetime) -> Caller | None:
    """Whose token this row is; None once it has expired, was revoked, or reaches more than its maker."""
    maker = session.get(ApiToken, row.maker_id) if row.maker_id is not None else None
    if _state(row, maker, now) != "active":
        return None
    return Caller(row.id, row.name, row.role, row.organisation, tuple(row.runs))


def within(maker: ApiToken | Caller, terms: ApiToken | TokenTerms) -> bool:
    """Whether a token reaches no more than its maker does: by role, organisation and runs."""
    if not ROLES.get(terms.role, frozenset({"nothing"})) <= ROLES.get(maker.role, frozenset()):
        return False
    if maker.organisation is not None and terms.organisation != maker.organisation:
        return False
    return not maker.runs or (bool(terms.runs) and set(terms.runs) <= set(maker.runs))


def view_of(row: ApiToken, maker: ApiToken | None, now: datetime) -> TokenView:
    """A row as it is listed."""
    return TokenView(
        row.name,
        row.prefix,
        row.role,
        row.organisation,
        _state(row, maker, now),
        in_utc(row.created_at),
        in_utc(row.expires_at) if row.expires_at else None,
        in_utc(row.last_used_at) if row.last_used_at else None,
        list(row.runs),
        row.id or 0,
        maker.name if maker else None,
        row.issuer,
    )


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def in_utc(moment: datetime) -> datetime:
    """SQLite gives moments back without their zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _state(row: ApiToken, maker: ApiToken | None, now: datetime) -> str:
    if row.revoked_at is not None:
        return "revoked"
    if row.expires_at is not None and in_utc(row.expires_at) <= now:
        return "expired"
    if row.maker_id is None:
        return "active" if row.role in ROLES else "withheld"
    # What was granted to the maker may have been taken back since.
    return "active" if maker is not None and _state(maker, None, now) == "active" and within(maker, row) else "withheld"


def _makers(session: Session, rows: Sequence[ApiToken]) -> dict[int, ApiToken]:
    wanted = {row.maker_id for row in rows} - {None}
    found = session.exec(select(ApiToken).where(col(ApiToken.id).in_(wanted))).all() if wanted else []
    return {row.id or 0: row for row in found}
