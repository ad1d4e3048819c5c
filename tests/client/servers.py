"""Servers on the loopback interface: one that tells what it sent and can misbehave, and a portal."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import uvicorn
from fastapi import FastAPI

PIECE = 1 << 16


@dataclass
class Behaviour:
    """How a `FileServer` answers; the defaults are those of a good server."""

    ranges: bool = True
    head: bool = True
    pause: float = 0.0
    """Seconds between pieces of 64 KiB."""
    breaks: int = 0
    """Answers that are still to be broken off half way."""
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    shift: int = 0
    """Added to the first byte of every range that is sent."""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FileServer:
    """Serves ``contents`` by path; ``asked`` lists (method, path, headers), ``sent`` counts bytes by path."""

    url: str
    contents: dict[str, bytes]
    behaviour: Behaviour = field(default_factory=Behaviour)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)

    def put_json(self, path: str, value: Any) -> None:
        """Serve a JSON document."""
        self.contents[path] = json.dumps(value).encode()

    def ranges_of(self, path: str) -> list[str]:
        """The Range headers of all GETs of a path."""
        return [h.get("range", "") for method, p, h in self.asked if p == path and method == "GET"]


@contextmanager
def file_server(contents: dict[str, bytes] | None = None) -> Iterator[FileServer]:
    """A running `FileServer`."""
    listening = _Server(("127.0.0.1", 0), _Handler)
    served = FileServer(f"http://127.0.0.1:{listening.server_address[1]}", contents or {})
    listening.files = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address of a real portal that runs in this process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what some tests are about."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        files: FileServer = self.server.files  # type: ignore[attr-defined]
        how, path = files.behaviour, self.path.split("?")[0]
        files.asked.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        status = 405 if self.command == "HEAD" and not how.head else how.statuses.get(path)
        if path in how.redirects:
            self._head(302, 0, {"Location": how.redirects[path]})
        elif status is not None or path not in files.contents:
            self._head(status or 404, 0, {})
        else:
            self._send(files, how, path)

    def _send(self, files: FileServer, how: Behaviour, path: str) -> None:
        body, asked, extra = files.contents[path], self.headers.get("Range"), dict(how.headers)
        if how.ranges:
            extra["Accept-Ranges"] = "bytes"
        status = 200
        if asked and how.ranges:
            first, last = (int(n) for n in asked.removeprefix("bytes=").split("-"))
            extra["Content-Range"] = f"bytes {first + how.shift}-{last}/{len(body)}"
            body, status = body[first : last + 1], 206
        self._head(status, len(body), extra)
        if self.command == "HEAD":
            return
        end = len(body)
        if how.breaks > 0:
            how.breaks -= 1
            end = len(body) // 2
            self.close_connection = True
        for at in range(0, end, PIECE):
            try:
                self.wfile.write(body[at : min(at + PIECE, end)])
            except OSError:
                self.close_connection = True
                return
            files.sent[path] = files.sent.get(path, 0) + min(PIECE, end - at)
            if how.pause:
                time.sleep(how.pause)

    def _head(self, status: int, length: int, extra: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **extra}.items():
            self.send_header(name, value)
        self.end_headers()
