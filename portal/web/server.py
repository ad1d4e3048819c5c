"""Connections of the HTTP server that let an answer's file go to the client inside the kernel.

ASGI has no words for that which uvicorn speaks, so the connection offers it as an extension of its own. An
application under another server, or behind TLS, does not find it and sends bytes as usual.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from portal.web.stopping import mark_stopping

EXTENSION = "portal.sendfile"
_WAITS = (0.0,) * 8 + (0.001,) * 50 + (0.05,) * 1200
"""Seconds between looks at whether the head has left: soon at first, for a minute at last."""


class SendfileProtocol(HttpToolsProtocol):
    """uvicorn's connection; over plain TCP each request finds a `DirectSocket` among its extensions."""

    def on_headers_complete(self) -> None:
        """Begin the request; its task has not run yet when this returns, so the extension is there in time."""
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope and self.scheme == "http":
            extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
            extensions[EXTENSION] = DirectSocket(self.cycle)

    def shutdown(self) -> None:
        """The server goes down: answers that wait are told, the others are finished."""
        mark_stopping()
        super().shutdown()


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
