"""Signing in: an API token, given once, becomes a cookie for this browser."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from portal.catalog.sessions import begin_session, end_session
from portal.errors import Unauthorized
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
    answer = render(request, "jobs/sign_in.html", _context(request, to) | {"visitor": visitor})
    if visitor is None and {cookie_name(request), SHOWN} & request.cookies.keys():
        clear_session(request, answer)
    return _private(answer)


@pages.post("/sign-in")
def sign_in(request: Request, form: Form) -> Response:
    """Take a token; what it is good for is shown, and the page it was asked on is gone back to."""
    check_same_origin(request)
    to = form.get("to", "")
    try:
        cookie, found = begin_session(get_desk(request).engine, form.get("token", "").strip())
    except Unauthorized as error:
        context = _context(request, to) | {"visitor": None, "trouble": error}
        return _private(render(request, "jobs/sign_in.html", context, status=401))
    answer = RedirectResponse(own_path(to) or "/sign-in", 303)
    set_session(request, answer, cookie, found)
    return _private(answer)


@pages.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End this browser's session."""
    check_same_origin(request)
    end_session(get_desk(request).engine, request.cookies.get(cookie_name(request), ""))
    answer = RedirectResponse("/sign-in", 303)
    clear_session(request, answer)
    return _private(answer)


def own_path(to: str) -> str:
    """An address of this portal, or nothing: nobody is led elsewhere by signing in."""
    return to if _OWN_PATH.match(to) else ""


def _context(request: Request, to: str) -> dict[str, object]:
    host = request.url.hostname or ""
    return {
        "to": own_path(to),
        "trouble": None,
        "open_line": not is_encrypted(request) and host not in _LOOPBACK,
        "anonymous": get_desk(request).settings.anonymous_jobs,
    }


def _private(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    return answer
