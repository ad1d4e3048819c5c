"""Tokens as those handle them who may: a holder makes, sees and revokes their own, an administrator sees and revokes all.

Nobody makes a token that reaches more than they do, by role, organisation, runs or lifetime. A token that was made with
another one makes none itself, so that revoking the first ends all that came of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, update
from sqlmodel import Session, col, select

from portal.catalog.accounts import (
    Caller,
    TokenTerms,
    TokenView,
    add_token,
    caller_of,
    check_terms,
    end_token,
    in_utc,
    list_views,
    view_of,
    within,
)
from portal.catalog.replies import Request, find_kept, keep_reply
from portal.database import Engine, open_session
from portal.errors import Conflict, Forbidden, NotFound, UsageError
from portal.models import ApiToken

MOST_ACTIVE = 100
"""Tokens one holder may have that are good, so that a script gone wrong fills no table."""


@dataclass(frozen=True)
class TokenWish:
    """A token somebody asks for."""

    terms: TokenTerms
    """Without a lifetime: the usual one, and no longer than the maker's."""
    name: str | None = None


@dataclass(frozen=True)
class Lifetimes:
    """How long tokens are good that people make themselves."""

    usual: timedelta
    longest: timedelta


def make_token(
    engine: Engine,
    caller: Caller,
    wish: TokenWish,
    lifetimes: Lifetimes,
    keyed: Request | None = None,
) -> tuple[str | None, TokenView]:
    """A new token of the caller's: its secret, which is shown this once, and how it is listed.

    The same request again under its key is the token it made, without its secret: that is kept nowhere. Raises
    UsageError for terms no token can have, Forbidden for those that reach more than the caller, Conflict for a name
    that was used before or too many tokens.
    """
    check_terms(wish.terms)
    if caller.token_id is None:
        raise Forbidden("Only holders of a token, and people who signed in, make tokens.", "Sign in with a token.")
    with open_session(engine) as session:
        maker = _lock(session, caller.token_id)
        now = datetime.now(UTC)
        if keyed and (known := find_kept(session, keyed)):
            return None, view_of(session.get_one(ApiToken, int(known[1])), maker, now)
        if caller_of(session, maker, now) is None:
            raise Forbidden(f"{maker.name} is no longer good.", "Sign in again.")
        terms = _bounded(maker, wish.terms, lifetimes, now)
        _check_room(session, maker, now)
        secret, row = add_token(session, terms, wish.name, maker)
        view = view_of(row, maker, now)
        if keyed:
            keep_reply(session, keyed, 200, str(row.id))
        session.commit()
    return secret, view


def list_own_tokens(session: Session, caller: Caller) -> list[TokenView]:
    """The caller's token and those made with it, the newest first; for an administrator, all (of their organisation)."""
    return list_views(session, session.exec(select(ApiToken).where(*_reachable(caller))).all())


def revoke_own_token(engine: Engine, caller: Caller, key: int) -> TokenView:
    """End a token, and what was made with it, for ever. NotFound for one that is not the caller's to see."""
    with open_session(engine) as session:
        # A write comes first, as everywhere; this one changes nothing.
        mine = update(ApiToken).where(col(ApiToken.id) == key, *_reachable(caller)).values(role=col(ApiToken.role))
        if session.execute(mine.returning(col(ApiToken.id))).first() is None:
            raise NotFound(f"There is no token {key} of yours.", "See GET /api/v1/tokens for those there are.")
        end_token(session, key, caller.name)
        session.commit()
        return list_views(session, [session.get_one(ApiToken, key)])[0]


def roles_within(caller: Caller) -> list[str]:
    """Roles that tokens made by this caller can have."""
    wide = TokenTerms("", caller.organisation, caller.runs)
    return [role for role in GIVEN if within(caller, replace(wide, role=role))]


GIVEN = ("reader", "publisher", "reviewer", "worker", "admin")
"""Roles in the order in which they are offered."""


def makes_tokens(session: Session, caller: Caller) -> bool:
    """Whether this caller may make tokens at all."""
    row = session.get(ApiToken, caller.token_id) if caller.token_id is not None else None
    return row is not None and row.maker_id is None


def _reachable(caller: Caller) -> list[ColumnElement[bool]]:
    """Which tokens are the caller's to see."""
    if caller.token_id is None:
        raise Forbidden("Only holders of a token, and people who signed in, have tokens.", "Sign in with a token.")
    if caller.role == "admin" and not caller.runs:
        return [] if caller.organisation is None else [col(ApiToken.organisation) == caller.organisation]
    return [(col(ApiToken.id) == caller.token_id) | (col(ApiToken.maker_id) == caller.token_id)]


def _lock(session: Session, key: int) -> ApiToken:
    """The maker's row, held so that it is not revoked meanwhile; a write, because SQLite wants one to come first."""
    session.execute(update(ApiToken).where(col(ApiToken.id) == key).values(role=col(ApiToken.role)))
    return session.get_one(ApiToken, key)


def _bounded(maker: ApiToken, terms: TokenTerms, lifetimes: Lifetimes, now: datetime) -> TokenTerms:
    """The terms with their lifetime, and the maker's own bounds where none are said; Forbidden beyond these."""
    if maker.maker_id is not None:
        raise Forbidden(
            "A token that was made with another one makes none itself.", "Sign in with the one it was made with."
        )
    terms = replace(terms, organisation=terms.organisation or maker.organisation, runs=terms.runs or tuple(maker.runs))
    check_terms(terms)
    if not within(maker, terms):
        bound = f" for {maker.organisation}" if maker.organisation else ""
        bound += f", bound to {', '.join(maker.runs)[:200]}" if maker.runs else ""
        raise Forbidden(
            f"{maker.name} has the role {maker.role}{bound}: no token made with it reaches more.",
            "Ask for the same or less.",
        )
    longest = lifetimes.longest
    if terms.lifetime is not None and (terms.lifetime > longest or terms.lifetime <= timedelta(0)):
        raise UsageError(
            f"A token made here is good for at most {longest.days} days.", "Ask for fewer.", parameter="days"
        )
    lifetime = min(terms.lifetime or lifetimes.usual, longest)
    if maker.expires_at is not None:
        left = in_utc(maker.expires_at) - now
        if terms.lifetime is not None and terms.lifetime > left:
            raise Forbidden(
                f"{maker.name} itself expires before that.", "Ask for fewer days, or for none in particular."
            )
        lifetime = min(lifetime, left)
    return replace(terms, lifetime=lifetime)


def _check_room(session: Session, maker: ApiToken, now: datetime) -> None:
    made = session.exec(
        select(ApiToken).where(col(ApiToken.maker_id) == maker.id, col(ApiToken.revoked_at).is_(None))
    ).all()
    if sum(1 for row in made if row.expires_at is None or in_utc(row.expires_at) > now) >= MOST_ACTIVE:
        raise Conflict(f"{maker.name} has {MOST_ACTIVE} tokens that are good.", "Revoke those you do not need.")
