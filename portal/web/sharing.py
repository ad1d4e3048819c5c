"""Pages of other sites may read what anyone may read: bytes, the Hub dialect and the API, without any credential.

Nothing here lets a browser send cookies along, so a page of another site sees what an anonymous visitor sees.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SHARED = re.compile(r"^/(files|api)/|^/(datasets/)?([^/]+/){1,2}resolve/")
EXPOSED = (
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, Digest, ETag, Link, Location, Repr-Digest, "
    "X-Error-Code, X-Error-Message, X-Linked-Etag, X-Linked-Size, X-Repo-Commit"
)
ASKED = "Accept, Content-Type, If-Match, If-Modified-Since, If-None-Match, If-Range, Range, User-Agent"
KEPT_SECONDS = 86400

_SHARED = [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED.encode())]
_ALLOWED = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (b"access-control-allow-headers", ASKED.encode()),
    (b"access-control-max-age", str(KEPT_SECONDS).encode()),
    (b"content-length", b"0"),
    (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
]
_WITHOUT_POST = [(name, b"GET, HEAD" if value == b"GET, HEAD, POST" else value) for name, value in _ALLOWED]
_HUB = re.compile(r"^/api/(models|datasets)/")
"""Where a list of paths is asked for with POST; it only reads."""


class ShareReading:
    """Answers preflights, and marks answers as readable from anywhere."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] != "http" or not SHARED.match(scope["path"]):
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        if method == "OPTIONS" and _is_preflight(scope):
            told = _ALLOWED if _HUB.match(scope["path"]) else _WITHOUT_POST
            await send({"type": "http.response.start", "status": 204, "headers": told})
            await send({"type": "http.response.body", "body": b""})
            return
        if method not in ("GET", "HEAD") and not _HUB.match(scope["path"]):
            await self.app(scope, receive, send)
            return

        async def send_shared(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = [(n, v) for n, v in message.get("headers", []) if not n.lower().startswith(b"access-control-")]
                message = {**message, "headers": [*told, *_SHARED]}
            await send(message)

        await self.app(scope, receive, send_shared)


def _is_preflight(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names
