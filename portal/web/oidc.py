"""Signing in through the identity provider that is set: to it by a link, back from it with a code, then a cookie as ever."""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING, Annotated

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from portal.catalog.people import sign_in_person
from portal.errors import NotFound, PortalError, Unauthorized
from portal.web.deps import PortalAddress, get_desk
from portal.web.identity.attempts import Attempt, new_attempt
from portal.web.sign_in import own_path, private, session_terms, show_form
from portal.web.visitors import cookie_name, is_encrypted, set_session

if TYPE_CHECKING:
    from portal.web.identity.provider import Provider

pages = APIRouter(include_in_schema=False)

BACK = "/sign-in/oidc/callback"
PATIENCE_S = 600
"""How long somebody may take to sign in over there."""
Word = Annotated[str, Query(max_length=4000)]


@pages.get("/sign-in/oidc")
def leave(request: Request, address: PortalAddress, to: Annotated[str, Query(max_length=2000)] = "") -> Response:
    """Send the browser to the provider; what it comes back with counts in this browser alone, and once."""
    provider = _provider(request)
    attempt = new_attempt(own_path(to))
    try:
        answer = RedirectResponse(provider.authorization_address(address + BACK, attempt), 303)
    except PortalError as error:
        return show_form(request, own_path(to), error)
    told = base64.urlsafe_b64encode(orjson.dumps(attempt)).decode()
    answer.set_cookie(
        _attempt_cookie(request), told, max_age=PATIENCE_S, path="/", secure=is_encrypted(request), httponly=True,
        samesite="lax",
    )  # fmt: skip
    return private(answer)


@pages.get(BACK)
def come_back(
    request: Request, address: PortalAddress, code: Word = "", state: Word = "", iss: Word = "", error: Word = ""
) -> Response:
    """Take the provider's answer; a page says what is wrong with one that does not count."""
    provider = _provider(request)
    attempt = _attempt_of(request)
    try:
        if attempt is None or not hmac.compare_digest(attempt.state.encode(), state.encode("utf-8", "replace")):
            raise Unauthorized("This sign-in was not begun in this browser, or too long ago.", "Sign in again.")
        if iss and iss != provider.issuer:
            raise Unauthorized(f"This answer is not of {provider.host}.", "Sign in again.")
        if error or not code:
            raise Unauthorized(f"{provider.host} did not let you in.", "Sign in again, or with an API token.")
        vouched = provider.exchange(address + BACK, attempt, code)
        desk, before = get_desk(request), request.cookies.get(cookie_name(request), "")
        cookie, found = sign_in_person(desk.engine, vouched, session_terms(desk.settings), before)
    except PortalError as fault:
        answer = show_form(request, attempt.to if attempt else "", fault)
    else:
        answer = private(RedirectResponse(attempt.to or "/account", 303))
        set_session(request, answer, cookie, found)
    answer.delete_cookie(
        _attempt_cookie(request), path="/", secure=is_encrypted(request), httponly=True, samesite="lax"
    )
    return answer


def _provider(request: Request) -> Provider:
    found: Provider | None = request.app.state.provider
    if found is None:
        raise NotFound("This portal has no identity provider.", "Sign in with an API token at /sign-in.")
    return found


def _attempt_of(request: Request) -> Attempt | None:
    """As the browser remembers it. Only this host can have set it over TLS; it opens nothing without the code."""
    try:
        told = orjson.loads(base64.urlsafe_b64decode(request.cookies.get(_attempt_cookie(request), "")))
        attempt = Attempt(*(str(told[name]) for name in ("state", "nonce", "verifier", "to")))
    except (ValueError, KeyError, TypeError):
        return None
    return Attempt(attempt.state, attempt.nonce, attempt.verifier, own_path(attempt.to))


def _attempt_cookie(request: Request) -> str:
    return "__Host-portal-oidc" if is_encrypted(request) else "portal-oidc"
