"""Who is signed in: what their role reaches, and tokens, which people make and end themselves; the same for programs."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import RedirectResponse, Response

from portal.catalog.accounts import Caller, TokenTerms, TokenView
from portal.catalog.answers import Page
from portal.catalog.own_tokens import (
    Lifetimes,
    TokenWish,
    list_own_tokens,
    make_token,
    makes_tokens,
    revoke_own_token,
    roles_within,
)
from portal.catalog.paging import slice_page
from portal.catalog.replies import Request as KeyedRequest
from portal.catalog.sessions import SignedIn, end_other_sessions
from portal.errors import BadRequest, PortalError, Unauthorized
from portal.settings import Settings
from portal.web.access import AllowedCaller
from portal.web.deps import Cursor, Db, Limit, as_json, get_desk
from portal.web.forms import Form
from portal.web.render import render
from portal.web.sign_in import private
from portal.web.visitors import Actor, Visitor, cookie_name

api = APIRouter(prefix="/api/v1", tags=["access"])
pages = APIRouter(include_in_schema=False)

SHOWN = 200
"""Tokens of others on an administrator's page; programs get them all."""
REACHES = {
    "reader": "reads what is public, and the private runs it is good for",
    "publisher": "publishes runs, submits jobs, and cancels its own",
    "reviewer": "explains findings and opens them again",
    "worker": "attaches compute and runs jobs",
    "admin": "cancels every job, drains workers, sees and revokes every token",
}
"""What each role adds to those it holds."""
FIELDS = ("role", "name", "organisation", "runs", "days")
TokenId = Annotated[int, Path(ge=1, le=2**53, description="As it is listed.")]
Word = Annotated[str, StringConstraints(max_length=200)]
_BETWEEN = re.compile(r"[\s,]+")


class TokenBody(BaseModel):
    """A token to make. What is not said is as with the token it is made with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Word
    name: Word | None = None
    organisation: Word | None = None
    runs: Annotated[list[Word], Field(max_length=100, description="The only runs it is to be good for.")] = []
    days: Annotated[int, Field(ge=1, le=3650, strict=True)] | None = None


@dataclass(frozen=True)
class MadeToken(TokenView):
    """A token with its secret."""

    token: str | None = None
    """Null when the same request is sent again: the secret is kept nowhere."""


@api.get("/tokens", response_model=Page[TokenView], summary="Your tokens")
def read_tokens(caller: AllowedCaller, db: Db, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The one that is sent and those made with it, the newest first; for an administrator all, of people as well."""
    page = slice_page(list_own_tokens(db, caller), 0, limit, cursor)
    return private(Response(as_json(page), media_type="application/json"))


@api.post("/tokens", status_code=201, summary="Make a token", response_model=MadeToken)
def make(
    request: Request,
    caller: AllowedCaller,
    body: TokenBody,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """It reaches no more than the one that is sent, by role, organisation, runs and lifetime; `token` is its secret, shown
    this once. With an `Idempotency-Key` the same request sent again makes no second one (200, `token` is null)."""
    keyed = None
    if idempotency_key is not None:
        asked = body.model_dump_json().encode()
        keyed = KeyedRequest.of(caller.name, idempotency_key, "POST", request.url.path, asked)
    secret, view = make_token(get_desk(request).engine, caller, _wish(body), _lifetimes(request), keyed)
    told = as_json(MadeToken(**vars(view), token=secret))
    return private(Response(told, 201 if secret else 200, media_type="application/json"))


@api.delete("/tokens/{token}", summary="Revoke a token", response_model=TokenView)
def revoke(request: Request, caller: AllowedCaller, token: TokenId) -> Response:
    """For ever, with what was made with it; browsers that signed in with either are signed out at once. 404 for a token
    that is not yours."""
    view = revoke_own_token(get_desk(request).engine, caller, token)
    return private(Response(as_json(view), media_type="application/json"))


@pages.get("/account")
def show_account(request: Request, db: Db, visitor: Visitor) -> Response:
    """Who is signed in, and their tokens; for everybody else the way to sign in."""
    if visitor is None:
        return private(RedirectResponse("/sign-in?to=/account", 303))
    return _page(request, db, visitor)


@pages.post("/account/tokens")
def make_from_form(request: Request, db: Db, form: Form, actor: Actor, visitor: Visitor) -> Response:
    """Make a token and show it, this once; what cannot be made is told beside the form."""
    known = _known(visitor, actor)
    asked = {name: form.get(name, "").strip() for name in FIELDS}
    try:
        keyed = KeyedRequest.of(actor.name, form.get("key", ""), "POST", request.url.path, repr(asked).encode())
        secret, made = make_token(get_desk(request).engine, actor, _read_wish(asked), _lifetimes(request), keyed)
    except Unauthorized:
        raise
    except PortalError as error:
        return _page(request, db, known, {"trouble": error, "asked": asked}, error.status)
    return _page(request, db, known, {"made": made, "secret": secret})


@pages.post("/account/tokens/{token}/revoke")
def revoke_from_form(request: Request, actor: Actor, token: TokenId) -> Response:
    """End a token, and go back to the list."""
    revoke_own_token(get_desk(request).engine, actor, token)
    return private(RedirectResponse("/account", 303))


@pages.post("/account/sign-out-others")
def sign_out_others(request: Request, actor: Actor) -> Response:
    """End this person's sessions in every other browser."""
    end_other_sessions(get_desk(request).engine, actor, request.cookies.get(cookie_name(request), ""))
    return private(RedirectResponse("/account", 303))


def _known(visitor: SignedIn | None, actor: Caller) -> SignedIn:
    """Who signed in; BadRequest for a token, which has no page to be shown on."""
    if visitor is None or visitor.caller != actor:
        raise BadRequest("This is the form of a page.", "Programs use POST /api/v1/tokens.")
    return visitor


def _page(
    request: Request, db: Db, visitor: SignedIn, more: dict[str, Any] | None = None, status: int = 200
) -> Response:
    caller = visitor.caller
    tokens = list_own_tokens(db, caller)
    others = [t for t in tokens if t.issuer is None and not _is_own(t, caller)]
    context = {
        "visitor": visitor,
        "own": [t for t in tokens if _is_own(t, caller) and t.issuer is None],
        "admin": caller.reaches("admin") and not caller.runs,
        "others": others[:SHOWN],
        "others_total": len(others),
        "people": [t for t in tokens if t.issuer is not None],
        "reaches": [text for role, text in REACHES.items() if caller.reaches(role)],
        "roles": roles_within(caller) if makes_tokens(db, caller) else [],
        "role_words": REACHES,
        "lifetimes": _lifetimes(request),
        "key": secrets.token_urlsafe(18),
        "trouble": None,
        "asked": dict.fromkeys(FIELDS, "") | {"organisation": caller.organisation or "", "runs": " ".join(caller.runs)},
        "made": None,
        "secret": None,
    }
    return private(render(request, "account/account.html", context | (more or {}), status))


def _is_own(token: TokenView, caller: Caller) -> bool:
    return token.id == caller.token_id or token.made_by == caller.name


def _wish(body: TokenBody) -> TokenWish:
    lifetime = timedelta(days=body.days) if body.days is not None else None
    runs = tuple(dict.fromkeys(body.runs))
    return TokenWish(TokenTerms(body.role, body.organisation, runs, lifetime), body.name)


def _read_wish(asked: dict[str, str]) -> TokenWish:
    days = asked["days"]
    if days and not (days.isascii() and days.isdigit() and len(days) < 5 and int(days) > 0):
        raise BadRequest(f"days is {days[:40]!r}.", "Write a whole number from 1.", parameter="days")
    runs = tuple(dict.fromkeys(part for part in _BETWEEN.split(asked["runs"]) if part))
    lifetime = timedelta(days=int(days)) if days else None
    return TokenWish(TokenTerms(asked["role"], asked["organisation"] or None, runs, lifetime), asked["name"] or None)


def _lifetimes(request: Request) -> Lifetimes:
    settings: Settings = get_desk(request).settings
    longest = timedelta(days=settings.token_max_days)
    return Lifetimes(min(timedelta(days=settings.token_days), longest), longest)
