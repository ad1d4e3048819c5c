"""Requests exactly as they are written: no client library tidies paths, headers or bodies up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Probe:
    """One request."""

    method: str
    path: str
    """With its query, written as it is to arrive."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    about: str = ""
    """What it tries, for messages."""

    def __str__(self) -> str:
        tail = f" {self.body[:120]!r}" if self.body else ""
        return f"{self.about}: {self.method} {self.path[:200]}{tail}"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    """0 where nothing did."""
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def media_type(self) -> str:
        """Without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip()

    def json(self) -> Any:
        """The body; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class _Unchecked(HTTPConnection):
    """Sends what it is given."""

    def _validate_path(self, url: str) -> None:
        """Any path."""

    def _encode_request(self, request: str) -> bytes:
        """Bytes that no request line should hold stay as they are."""
        return request.encode("latin-1")

    def putheader(self, header: Any, *values: Any) -> None:
        """Any header."""
        written = b", ".join(v if isinstance(v, bytes) else str(v).encode("utf-8", "surrogatepass") for v in values)
        self._output(f"{header}: ".encode() + written.replace(b"\r", b"").replace(b"\n", b""))  # type: ignore[attr-defined]


class Wire:
    """Connections to one server, one per thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._mine = threading.local()
        self._made: list[HTTPConnection] = []

    def ask(self, probe: Probe) -> Answer:
        """The answer; a connection that was closed meanwhile is made anew once."""
        started = time.monotonic()
        for attempt in (1, 2):
            connection = self._connection()
            try:
                path = probe.path.encode("utf-8", "surrogatepass").decode("latin-1")
                connection.request(probe.method, path, probe.body, dict(probe.headers))
                got = connection.getresponse()
                body = got.read()
                headers = {name.lower(): value for name, value in got.getheaders()}
                return Answer(got.status, headers, body, time.monotonic() - started)
            except (OSError, HTTPException, ValueError):
                connection.close()
                self._mine.connection = None
                if attempt == 2:
                    break
        return Answer(0, {}, b"", time.monotonic() - started)

    def close(self) -> None:
        """Hang up, on all threads."""
        for connection in self._made:
            connection.close()

    def _connection(self) -> HTTPConnection:
        held: HTTPConnection | None = getattr(self._mine, "connection", None)
        if held is None:
            held = self._mine.connection = _Unchecked("127.0.0.1", self._port, timeout=TIMEOUT_S)
            self._made.append(held)
        return held


def ask_all(wire: Wire, probes: Iterable[Probe], judge: Callable[[Probe, Answer], str], threads: int = 3) -> list[str]:
    """What ``judge`` says of each answer; nothing where it says nothing."""

    def one(probe: Probe) -> str:
        return judge(probe, wire.ask(probe))

    try:
        with ThreadPoolExecutor(threads) as pool:
            return [said for said in pool.map(one, probes) if said]
    finally:
        wire.close()
