"""Connections of the HTTP server: they let an answer's file go to the client inside the kernel, do not wait for heads
that never end, and are left without cutting anybody off.

ASGI has no words for sending files which uvicorn speaks, so the connection offers it as an extension of its own. An
application under another server, or behind TLS, does not find it and sends bytes as usual.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import orjson
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from portal.errors import BadRequest, PortalError, TooSlow
from portal.web.door.asked import asked_of
from portal.web.door.heads import HEAD_SECONDS, MAX_ADDRESS, MAX_HEADERS, headers_too_large
from portal.web.headers import with_security
from portal.web.problems import MEDIA_TYPE, problem
from portal.web.stopping import is_stopping, mark_stopping

EXTENSION = "portal.sendfile"
LINGER_S = 1.0
"""How long a connection without a request stays when the server goes down."""
_WAITS = (0.0,) * 8 + (0.001,) * 50 + (0.05,) * 1200
"""Seconds between looks at whether the head has left: soon at first, for a minute at last."""


class SendfileProtocol(HttpToolsProtocol):
    """uvicorn's connection; over plain TCP each request finds a `DirectSocket` among its extensions."""

    _head_bytes = 0
    _in_head = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came; it has not said anything yet."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It went."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came; a head that is too large or too slow ends here, as nobody else would ever hear of it."""
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_ADDRESS + MAX_HEADERS:
            self._end(headers_too_large())
        elif self._head_timer is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Begin the request; its task has not run yet when this returns, so the extension is there in time."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()
        if self.cycle is None or self.cycle.scope is not self.scope:
            return
        if self.scheme == "http":
            extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
            extensions[EXTENSION] = DirectSocket(self.cycle)
        if is_stopping():
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._end(BadRequest(msg, "Send HTTP/1.1."))

    def shutdown(self) -> None:
        """The server goes down: answers that wait are told, the others are finished.

        A connection on which nothing is asked at the moment stays for a little: its client may just have sent
        something, which would be lost. It is answered, and told that it was the last.
        """
        mark_stopping()
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(LINGER_S, self.timeout_keep_alive_handler)

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self._head_bytes:
            self._end(TooSlow(f"The request's head did not come within {HEAD_SECONDS:g} seconds.", "Send it faster."))
        else:
            self.transport.close()

    def _end(self, error: PortalError) -> None:
        """Say what is wrong and close: there is no request that an application could answer."""
        body = orjson.dumps(problem(error))
        told = [*self.server_state.default_headers, (b"content-type", MEDIA_TYPE.encode()), (b"connection", b"close")]
        told.append((b"content-length", str(len(body)).encode()))
        lines = b"".join(b"%s: %s\r\n" % pair for pair in with_security(told))
        self.transport.write(STATUS_LINE[error.status] + lines + b"\r\n" + body)
        self.transport.close()


class DirectSocket:
    """The client's socket for bytes that need not pass through this process."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    async def open(self) -> int | None:
        """A descriptor to send the body to, once the head has left; the caller closes it. None: send as usual.

        It is a duplicate: a number of the connection's own could be another client's after a hang-up.
        """
        transport = self._cycle.transport
        connection = transport.get_extra_info("socket")
        if connection is None or self._cycle.chunked_encoding is not False:
            return None
        for seconds in _WAITS:
            if self._cycle.disconnected or transport.is_closing():
                return None
            if not transport.get_write_buffer_size():
                return os.dup(connection.fileno())
            await asyncio.sleep(seconds)
        return None

    def count(self, sent: int) -> None:
        """Tell the connection that so many bytes of the body have gone past it."""
        self._cycle.expected_content_length -= sent
        asked = asked_of(self._cycle.scope)  # type: ignore[arg-type]
        if asked is not None:
            asked.sent += sent


def direct_socket(scope: Scope) -> DirectSocket | None:
    """The request's socket, where the server lends it."""
    found: DirectSocket | None = scope.get("extensions", {}).get(EXTENSION)
    return found


async def writable(descriptor: int, gone: asyncio.Future[None]) -> None:
    """Wait until a socket takes more, or its client has hung up."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake(*_: object) -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(descriptor, wake)
    gone.add_done_callback(wake)
    try:
        await ready
    finally:
        gone.remove_done_callback(wake)
        loop.remove_writer(descriptor)
