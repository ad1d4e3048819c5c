"""Who asks: found once for every request, before anything is looked up for it, and so what they may see of the catalog.

A token counts everywhere, a cookie for the portal's own pages and for what these fetch. Whoever shows neither costs
nothing here. What is answered to somebody who was recognised is theirs alone: no cache on the way may keep it.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import quote

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portal.catalog.accounts import MARK, Caller, find_caller
from portal.catalog.jobs.attempts import find_attempt_caller
from portal.catalog.sessions import SignedIn, find_session
from portal.catalog.sight import EVERYTHING, PUBLIC, Sight, current_sight, looking_as, sight_of
from portal.database import DatabaseDown, Engine, open_session
from portal.errors import Unauthorized, Unavailable
from portal.web import problems
from portal.web.askers import ASKER, NOBODY, Asker, bearer_of, cookie_name
from portal.web.headers import with_security
from portal.web.hub.answers import refused
from portal.web.permissions import PERMISSIONS, WORKER, is_always_open
from portal.web.same_origin import comes_from

AGAIN_S = 10.0
"""Seconds after which somebody who is still being answered is looked up again."""
_SHOWN = frozenset((b"authorization", b"cookie"))
_OF_PAGES = re.compile(r"^/(?!api/|files/|(datasets/)?([^/]+/){1,2}resolve/)")
"""Pages, and what they are made of; everything else takes a cookie only where the portal's own pages ask."""
_HUB = re.compile(r"^/api/(models|datasets)(/|$)|^/api/whoami-v2$|^/(datasets/)?([^/]+/){1,2}resolve/")
_OF_WORKERS = [
    compile_path(path)[0] for (method, path), role in PERMISSIONS.items() if method == "POST" and role == WORKER
]
"""What workers tell and ask: a lease decides there, not whose the run is."""


class KnowWhoAsks:
    """Finds out who asks, and lets the application see what they may.

    ``operator``: everybody is the portal's operator, as on a socket that only they reach.
    """

    def __init__(self, app: ASGIApp, engine: Engine, anonymous_reading: bool = True, operator: bool = False) -> None:
        self.app = app
        self._engine = engine
        self._closed = not anonymous_reading and not operator
        self._nobody = EVERYTHING if operator else PUBLIC

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer within what the asker sees."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        shown = _SHOWN.intersection([name for name, _ in scope["headers"]])
        if not shown and not self._closed:
            # Most requests: nothing is looked up for them, and the path does not matter.
            with looking_as(self._nobody):
                await self.app(scope, receive, send)
            return
        path = _path(scope)
        if is_always_open(path):
            with looking_as(self._nobody):
                await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            asker = await self._find(request, path) if shown else NOBODY
        except DatabaseDown:
            told = problems.answer(request, Unavailable("The database does not answer.", "Try again in a moment."))
            await _sent(told, scope, receive, send)
            return
        if asker.caller is None and self._closed:
            await _sent(_turned_away(request, path, asker), scope, receive, send)
            return
        scope[ASKER] = asker
        with looking_as(self._sight(scope["method"], path, asker)):
            await self.app(scope, receive, _only_for(send) if asker.caller else send)

    def _sight(self, method: str, path: str, asker: Asker) -> Sight:
        if method == "POST" and any(pattern.match(path) for pattern in _OF_WORKERS):
            return EVERYTHING
        return self._nobody if asker.caller is None else sight_of(asker.caller)

    async def _find(self, request: Request, path: str) -> Asker:
        secret = bearer_of(request)
        if secret is not None:
            # Tokens of other places are sent along by clients of the Hub; these are nobody here.
            known = secret.startswith(MARK)
            return await run_in_threadpool(find_holder, self._engine, secret) if known else Asker(secret=secret)
        cookie = request.cookies.get(cookie_name(request))
        if cookie is None or not _counts(request, path):
            return NOBODY
        found = await run_in_threadpool(_find_session, self._engine, cookie)
        return Asker(found.caller, found) if found else NOBODY


class Eyes:
    """What somebody sees while an answer to them goes on and on: until then their token may end, or reach less."""

    def __init__(self, request: Request, engine: Engine) -> None:
        self._engine = engine
        self._asker: Asker = request.scope.get(ASKER, NOBODY)
        self._cookie = request.cookies.get(cookie_name(request), "") if self._asker.signed_in else ""
        self._sight: Sight | None = current_sight()
        self._asked = time.monotonic()

    async def sight(self) -> Sight | None:
        """At most `AGAIN_S` old; None where they were somebody and are nobody any more."""
        if self._asker.caller is not None and time.monotonic() - self._asked >= AGAIN_S:
            self._asked = time.monotonic()
            caller = await run_in_threadpool(self._find)
            self._sight = None if caller is None else sight_of(caller)
        return self._sight

    def _find(self) -> Caller | None:
        if self._asker.secret is not None:
            return find_holder(self._engine, self._asker.secret).caller
        found = _find_session(self._engine, self._cookie)
        return found.caller if found else None


def find_holder(engine: Engine, secret: str) -> Asker:
    """Whose token this is; nobody's where it is unknown, expired or revoked."""
    with looking_as(EVERYTHING), open_session(engine) as session:
        return Asker(find_attempt_caller(session, secret) or find_caller(session, secret), secret=secret)


def _find_session(engine: Engine, cookie: str) -> SignedIn | None:
    with open_session(engine) as session:
        return find_session(session, cookie)


def _path(scope: Scope) -> str:
    """Without what a proxy mounted the portal at."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _counts(request: Request, path: str) -> bool:
    """Whether a cookie counts: everywhere on pages (their forms look at the origin themselves), and for reading what
    pages fetch, unless another site's page asks."""
    if _OF_PAGES.match(path):
        return True
    return request.method in ("GET", "HEAD") and comes_from(request) != "foreign"


def _turned_away(request: Request, path: str, asker: Asker) -> Response:
    """To programs an error, to people the way to sign in."""
    error = Unauthorized(
        "This portal shows nothing to those who are not signed in.", "Send a token as `Authorization: Bearer …`."
    )
    if asker.secret is not None:
        error = Unauthorized("This token is unknown, expired or revoked.", "Ask the portal's operator for a new one.")
    if _HUB.match(path):
        # By this code the Hub's clients tell their user to sign in.
        return refused(error, {"WWW-Authenticate": "Bearer", "X-Error-Code": "RepoNotFound"})
    if request.method not in ("GET", "HEAD") or problems.is_for_programs(path):
        return problems.answer(request, error)
    way = f"/sign-in?to={quote(path + (f'?{request.url.query}' if request.url.query else ''), safe='')}"
    if request.headers.get("hx-request") == "true":
        answer = problems.answer(request, error)
        answer.headers["HX-Redirect"] = way
        return answer
    return RedirectResponse(way, 303, {"Cache-Control": "no-store"})


async def _sent(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer from outside of what adds headers."""
    answer.raw_headers[:] = with_security(answer.raw_headers)
    await answer(scope, receive, send)


def _only_for(send: Send) -> Send:
    """Mark what is sent as this asker's own."""

    async def send_marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": _marked(message.get("headers", []))}
        await send(message)

    return send_marked


def _marked(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    left, vary, kept = [], [b"Authorization", b"Cookie"], b"private, no-cache"
    for name, value in headers:
        lower = name.lower()
        if lower == b"vary":
            vary += [part.strip() for part in value.split(b",")]
        elif lower == b"cache-control":
            kept = value if b"no-store" in value else kept
        else:
            left.append((name, value))
    told: dict[bytes, Any] = {part.lower(): part for part in reversed(vary) if part}
    return [*left, (b"cache-control", kept), (b"vary", b", ".join(sorted(told.values())))]
