"""Large ranges from servers other than the portal, received straight into memory that is there already.

Python's own HTTP client asks the kernel to write into the buffer; a general client hands out a new object every 64 KiB,
which costs twice the processor time (`python -m tests.bench transfers`). Behind a proxy the general client is used.
"""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

import httpx

STEP = 1 << 20
"""Bytes between two reports of progress."""
BROKEN = (OSError, HTTPException)
"""What a server that breaks off, or talks no HTTP, ends in."""


@dataclass(frozen=True)
class Told:
    """The head of an answer."""

    status_code: int
    headers: Mapping[str, str] | Message
    """By any spelling of their names."""


class BulkConnections:
    """Connections kept open between requests; safe to use from several threads."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._idle: dict[tuple[str, str], list[HTTPConnection]] = {}
        self._lock = threading.Lock()
        self._trust: ssl.SSLContext | None = None

    def reaches(self, address: str) -> bool:
        """Whether ``address`` is asked directly, as no proxy stands between."""
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and not urllib.request.getproxies().keys() & {parts.scheme, "all"}

    def receive(
        self,
        address: str,
        headers: Mapping[str, str],
        accept: Callable[[Told], bool],
        buffer: memoryview,
        advance: Callable[[int], None],
    ) -> tuple[int, bool]:
        """How many bytes of ``buffer`` the answer fills, and whether it goes on after them.

        The body is taken where ``accept`` agrees to the head. Raises `BROKEN`, and what ``accept`` raises.
        """
        connection, answer = self._asked(address, headers)
        keep = False
        try:
            if not accept(Told(answer.status, answer.headers)):
                return 0, False
            filled = 0
            while filled < len(buffer):
                count = answer.readinto(buffer[filled : filled + STEP])
                if not count:
                    return filled, False
                filled += count
                advance(count)
            more = bool(answer.read(1))
            keep = not more and not answer.will_close
            return filled, more
        finally:
            if keep:
                self._put_back(address, connection)
            else:
                connection.close()

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            held = [one for idle in self._idle.values() for one in idle]
            self._idle.clear()
        for connection in held:
            connection.close()

    def _asked(self, address: str, headers: Mapping[str, str]) -> tuple[HTTPConnection, HTTPResponse]:
        parts = urlsplit(address)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        kept = self._take(address)
        if kept is not None:
            # The server may have closed it meanwhile: that is no failure of its own.
            with suppress(*BROKEN):
                return kept, _send(kept, target, headers)
            kept.close()
        fresh = self._open(parts.scheme, parts.netloc)
        try:
            return fresh, _send(fresh, target, headers)
        except BaseException:
            fresh.close()
            raise

    def _open(self, scheme: str, place: str) -> HTTPConnection:
        if scheme == "http":
            connection = HTTPConnection(place, timeout=self._timeout)
        else:
            with self._lock:
                self._trust = self._trust or httpx.create_ssl_context()
            connection = HTTPSConnection(place, timeout=self._timeout, context=self._trust)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _take(self, address: str) -> HTTPConnection | None:
        with self._lock:
            idle = self._idle.get(urlsplit(address)[:2])
            return idle.pop() if idle else None

    def _put_back(self, address: str, connection: HTTPConnection) -> None:
        with self._lock:
            self._idle.setdefault(urlsplit(address)[:2], []).append(connection)


def _send(connection: HTTPConnection, target: str, headers: Mapping[str, str]) -> HTTPResponse:
    connection.request("GET", target, headers=dict(headers))
    return connection.getresponse()
