"""What a request brings is read with limits before anything looks at it: size, pace, encoding, depth, room on the disk."""

from __future__ import annotations

import asyncio
import re
import time

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portal.errors import BadRequest, Overloaded, PortalError, TooLarge, TooSlow, UnsupportedEncoding
from portal.settings import Settings
from portal.storage.room import check_disk
from portal.web.door.kinds import SAFE, Brings, brings
from portal.web.door.refusing import refuse

LEAST = 64 << 10
"""Bytes a body must bring in PORTAL_UPLOAD_SECONDS, as uploads must."""
MAX_DEPTH = 64
"""Objects and lists inside each other in a JSON body; deeper ones could be taken in, but not told again."""
HELD_AT_ONCE = 256 << 20
"""Bytes of bodies that one process holds before their endpoints are called."""
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_LENGTH = re.compile(rb"\d{1,18}")


class CheckBodies:
    """Refuses what is too much, too slow or does not fit on the disk; the rest comes to its endpoint at once."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless the body is refused."""
        if scope["type"] != "http" or scope["method"] in SAFE:
            await self.app(scope, receive, send)
            return
        rule = brings(scope["path"])
        held = 0
        try:
            await self._check(scope, rule)
            if not rule.whole:
                paced = receive if rule.own_pace else _paced(receive, self._settings.upload_seconds)
                await self.app(scope, paced, send)
                return
            body = await self._read(receive, rule.most)
            held = len(body)
            check_depth(scope, body)
        except ClientDisconnect:
            return
        except PortalError as error:
            # What is still on its way would be read for nothing.
            await refuse(scope, receive, send, error, close=True)
            return
        self._held += held
        try:
            await self.app(scope, _replayed(body, receive), send)
        finally:
            self._held -= held

    async def _check(self, scope: Scope, rule: Brings) -> None:
        told = dict(scope["headers"])
        encoding = told.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"identity", b""):
            raise UnsupportedEncoding("The body is compressed.", "Send it as it is, without Content-Encoding.")
        length = told.get(b"content-length")
        if length is not None and not _LENGTH.fullmatch(length):
            raise BadRequest("Content-Length is no number of bytes.", "Send the body's length in digits.")
        if rule.most and length is not None and int(length) > rule.most:
            raise too_large(rule.most)
        if rule.fills_disk:
            await run_in_threadpool(check_disk, self._settings, int(length or 0))

    async def _read(self, receive: Receive, most: int) -> bytes:
        parts: list[bytes] = []
        size, more, receive = 0, True, _paced(receive, self._settings.upload_seconds)
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part = message.get("body", b"")
            size += len(part)
            if size > most:
                raise too_large(most)
            if self._held + size > HELD_AT_ONCE:
                raise Overloaded("Too much is on its way to the portal.", "Try again in a moment.", retry_after=2)
            parts.append(part)
            more = message.get("more_body", False)
        return b"".join(parts)


def too_large(most: int) -> TooLarge:
    """The refusal of a body of more than ``most`` bytes."""
    return TooLarge(f"The request has more than {most:,} bytes.", "Send less at once.", limit=most)


def check_depth(scope: Scope, body: bytes) -> None:
    """BadRequest for JSON with more than 64 levels; one pass over the brackets outside of strings, no parsing."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    kind = dict(scope["headers"]).get(b"content-type", b"")
    if b"json" not in kind:
        return
    depth = 0
    for found in _TOKENS.finditer(body):
        first = body[found.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise BadRequest(f"The JSON is nested more than {MAX_DEPTH} levels deep.", "Send it flatter.")
        elif first in b"]}":
            depth -= 1


def _replayed(body: bytes, receive: Receive) -> Receive:
    told = False

    async def once() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


def _paced(receive: Receive, seconds: float) -> Receive:
    """The same body; TooSlow where less than 64 KiB come in ``seconds``, counted over all of it."""
    began, came, ended = time.monotonic(), 0, False

    async def next_part() -> Message:
        nonlocal came, ended
        if ended:
            return await receive()
        left = began + seconds * (1 + came / LEAST) - time.monotonic()
        try:
            async with asyncio.timeout(max(left, 0.001)):
                message = await receive()
        except TimeoutError:
            raise TooSlow(
                f"Fewer than {LEAST:,} bytes of the request came in {seconds:g} seconds.", "Send it again, faster."
            ) from None
        came += len(message.get("body", b""))
        ended = not message.get("more_body", False)
        return message

    return next_part
