"""Signing in: an API token, given once, becomes a cookie for this browser; beside it the way to the identity provider."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from portal.catalog.sessions import SessionTerms, begin_session, end_session
from portal.errors import PortalError, Unauthorized
from portal.settings import Settings
from portal.web.deps import get_desk
from portal.web.forms import Form
from portal.web.render import render
from portal.web.same_origin import check_same_origin
from portal.web.visitors import SHOWN, Visitor, clear_session, cookie_name, is_encrypted, set_session

pages = APIRouter(include_in_schema=False)

_OWN_PATH = re.compile(r"^/(?![/\\])[^\\\x00-\x20\x7f]*$")
_LOOPBACK = {"127.0.0.1", "localhost", "::1", "testserver"}


@pages.get("/sign-in")
def show_sign_in(request: Request, visitor: Visitor, to: Annotated[str, Query(max_length=2000)] = "") -> Response:
    """Who is signed in, or the form to do it."""
    answer = render(request, "account/sign_in.html", _context(request, to) | {"visitor": visitor})
    if visitor is None and {cookie_name(request), SHOWN} & request.cookies.keys():
        clear_session(request, answer)
    return private(answer)


@pages.post("/sign-in")
def sign_in(request: Request, form: Form) -> Response:
    """Take a token; what it is good for is shown, and the page it was asked on is gone back to."""
    check_same_origin(request)
    to, desk = form.get("to", ""), get_desk(request)
    terms, before = session_terms(desk.settings), request.cookies.get(cookie_name(request), "")
    try:
        cookie, found = begin_session(desk.engine, form.get("token", "").strip(), terms.lifetime, terms.idle, before)
    except Unauthorized as error:
        return show_form(request, own_path(to), error)
    answer = RedirectResponse(own_path(to) or "/sign-in", 303)
    set_session(request, answer, cookie, found)
    return private(answer)


@pages.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End this browser's session."""
    check_same_origin(request)
    end_session(get_desk(request).engine, request.cookies.get(cookie_name(request), ""))
    answer = RedirectResponse("/sign-in", 303)
    clear_session(request, answer)
    return private(answer)


def own_path(to: str) -> str:
    """An address of this portal, or nothing: nobody is led elsewhere by signing in."""
    return to if _OWN_PATH.match(to) else ""


def show_form(request: Request, to: str, trouble: PortalError) -> Response:
    """The form again, with what went wrong."""
    context = _context(request, to) | {"visitor": None, "trouble": trouble}
    return private(render(request, "account/sign_in.html", context, status=trouble.status))


def session_terms(settings: Settings) -> SessionTerms:
    """How long browsers stay signed in, as it is set."""
    return SessionTerms(timedelta(hours=settings.session_hours), timedelta(hours=settings.session_idle_hours))


def private(answer: Response) -> Response:
    """An answer for this browser alone, now."""
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _context(request: Request, to: str) -> dict[str, object]:
    host, settings = request.url.hostname or "", get_desk(request).settings
    provider = request.app.state.provider
    return {
        "to": own_path(to),
        "trouble": None,
        "open_line": not is_encrypted(request) and host not in _LOOPBACK,
        "anonymous": settings.anonymous_jobs,
        "provider": provider.host if provider else None,
        "lasts": _words(settings.session_hours),
        "idle": _words(settings.session_idle_hours) if settings.session_idle_hours < settings.session_hours else "",
    }


def _words(hours: float) -> str:
    """A lifetime as people say it; nothing for none."""
    count, unit = (hours / 24, "day") if hours >= 48 and hours % 24 == 0 else (hours, "hour")
    return f"{count:g} {unit}{'' if count == 1 else 's'}" if hours else ""
