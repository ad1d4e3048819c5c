"""Refusals told before any page or endpoint is reached: cheap, with all headers, in the words of every other error."""

from __future__ import annotations

from html import escape
from http import HTTPStatus

import orjson
from starlette.types import Receive, Scope, Send

from portal.errors import PortalError
from portal.web.door.asked import asked_of
from portal.web.headers import with_security
from portal.web.problems import MEDIA_TYPE, is_for_programs, problem

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{phrase}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark"></head>
<body><main><h1>{phrase}</h1><p>{message}</p><p>{remedy}</p></main></body></html>"""


async def refuse(scope: Scope, _receive: Receive, send: Send, error: PortalError, close: bool = False) -> None:
    """The error, as problem+json to programs and a bare page to people; ``close`` ends the connection after it."""
    headers, body = _written(scope, error)
    if "retry_after" in error.extra:
        headers.append((b"retry-after", str(error.extra["retry_after"]).encode()))
    if close:
        headers.append((b"connection", b"close"))
    if scope["path"].startswith("/api/"):
        headers.append((b"access-control-allow-origin", b"*"))
    headers += [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": error.status, "headers": with_security(headers)})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _written(scope: Scope, error: PortalError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    accepts = dict(scope["headers"]).get(b"accept", b"")
    if is_for_programs(scope["path"]) or b"text/html" not in accepts:
        asked = asked_of(scope)
        told = problem(error) | ({"request_id": asked.id} if asked else {})
        return [(b"content-type", MEDIA_TYPE.encode())], orjson.dumps(told, default=str)
    page = _PAGE.format(
        phrase=escape(HTTPStatus(error.status).phrase), message=escape(error.message), remedy=escape(error.remedy)
    )
    return [(b"content-type", b"text/html; charset=utf-8")], page.encode()
