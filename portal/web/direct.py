"""Direct answers: the busiest reads go from their address straight to the function that answers them.

Trying sixty routes and solving parameters costs more than these answers themselves. The routes stay as they
are; this is a shorter way to the same functions, and whatever it cannot answer takes the ordinary way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from portal.database import DatabaseDown
from portal.errors import PortalError
from portal.web.permissions import ANYONE, PERMISSIONS

Answer = Callable[..., Awaitable[Response]]
"""An endpoint that takes the request and the text parts of its path, and reads its query by hand."""


class DirectAnswers:
    """Calls an endpoint for GET at exactly its route's path; the innermost layer, so that all others still apply."""

    def __init__(self, app: ASGIApp, ways: Sequence[tuple[APIRouter, Answer]]) -> None:
        self.app = app
        self._ways = [(route.path_regex, answer) for router, answer in ways for route in [_route_of(router, answer)]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer directly, or let the application answer; it also tells every error."""
        response = None
        if scope["type"] == "http" and scope["method"] == "GET" and not scope.get("root_path"):
            response = await self._answer(Request(scope, receive, send))
        await (response or self.app)(scope, receive, send)

    async def _answer(self, request: Request) -> Response | None:
        path: str = request.scope["path"]
        for pattern, answer in self._ways:
            found = pattern.match(path)
            if found is not None:
                try:
                    return await answer(request, **found.groupdict())
                except (PortalError, DatabaseDown):
                    return None
        return None


def _route_of(router: APIRouter, answer: Answer) -> APIRoute:
    """The route of an endpoint. Only what anyone may read can be answered without asking who asks."""
    found: list[Any] = [r for r in router.routes if isinstance(r, APIRoute) and r.endpoint is answer]
    if len(found) != 1 or PERMISSIONS.get(("GET", found[0].path)) != ANYONE or found[0].dependant.dependencies:
        raise ValueError(f"{answer} cannot be answered directly: it must be one open route that depends on nothing.")
    route: APIRoute = found[0]
    return route
