"""Small web servers for tests: files by range, a Hub's dialect over them, and a proxy that spoils answers."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

LAST_MODIFIED = "Sat, 21 Nov 2026 10:00:00 GMT"


@dataclass
class Files:
    """What a server holds, by decoded path, and what it was asked."""

    held: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    deny_head: bool = False
    ignore_ranges: bool = False
    etag: str = ""
    state: int = 0
    """An answer to everything, where not 0."""
    content_range: str = ""
    """What every answered range claims to be, where not empty."""
    encoding: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    files: Files

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Tests read what was asked from `Files.asked`."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.files.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.files.state or (self.files.deny_head and self.command == "HEAD"):
            return self._send(self.files.state or 403, {}, b"refused")
        if path in self.files.redirects:
            return self._send(302, {"Location": self.files.redirects[path]}, b"")
        return self._send_file(path)

    def _send_file(self, path: str) -> None:
        data = self.files.held.get(path)
        if data is None:
            return self._send(404, {}, b"")
        headers = {
            "ETag": self.files.etag or f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"',
            "Last-Modified": LAST_MODIFIED,
            "Accept-Ranges": "bytes",
        }
        if self.files.encoding:
            headers["Content-Encoding"] = self.files.encoding
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is None or self.files.ignore_ranges:
            return self._send(200, headers, data)
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        if first >= len(data):
            return self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        headers["Content-Range"] = self.files.content_range or f"bytes {first}-{last}/{len(data)}"
        return self._send(206, headers, data[first : last + 1])

    def _send(self, state: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(state)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(b"" if self.command == "HEAD" else body)


@dataclass
class Hub(Files):
    """One model repository in the Hub's dialect; its files lie on the web server ``storage``."""

    repository: str = "lab/run"
    storage: str = ""
    storage_files: Files = field(default_factory=Files)
    commits: dict[str, str] = field(default_factory=lambda: {"main": "a" * 40})
    token: str = ""
    page: int = 3

    def oid_of(self, path: str) -> str:
        """What the tree calls a file."""
        return hashlib.sha256(self.held[path]).hexdigest()


class _HubHandler(_Handler):
    files: Hub

    def _answer(self) -> None:
        hub, path = self.files, urlsplit(self.path).path
        hub.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if hub.state:
            return self._send(hub.state, {}, b"")
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._send(401, {"X-Error-Code": "GatedRepo"}, b"")
        if path.startswith("/api/models/"):
            return self._answer_api(path.removeprefix("/api/models/"))
        return self._answer_file(path)

    def _answer_api(self, rest: str) -> None:
        hub = self.files
        if not rest.startswith(f"{hub.repository}/"):
            return self._send(404, {"X-Error-Code": "RepoNotFound"}, b"")
        verb, _, rest = rest.removeprefix(f"{hub.repository}/").partition("/")
        revision, _, folder = rest.partition("/")
        commit = self._commit(unquote(revision))
        if commit is None:
            return self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"")
        if verb == "revision":
            return self._send(200, {}, json.dumps({"id": hub.repository, "sha": commit}).encode())
        return self._send_tree(unquote(folder))

    def _send_tree(self, folder: str) -> None:
        hub, prefix = self.files, f"{folder}/" if folder else ""
        paths = sorted((p for p in hub.held if p.startswith(prefix)), key=lambda p: hashlib.sha256(p.encode()).digest())
        if not paths:
            return self._send(404, {"X-Error-Code": "EntryNotFound"}, b"")
        query = urlsplit(self.path).query
        start = int((re.findall(r"cursor=(\d+)", query) or ["0"])[0])
        listed = [
            {"type": "file", "path": p, "size": len(hub.held[p]), "oid": hub.oid_of(p)}
            for p in paths[start : start + hub.page]
        ]
        listed.append({"type": "directory", "path": "folder", "oid": "0", "size": 0})
        headers = {}
        if start + hub.page < len(paths):
            address = f"http://{self.headers['Host']}{urlsplit(self.path).path}"
            headers["Link"] = f'<{address}?recursive=true&cursor={start + hub.page}>; rel="next"'
        return self._send(200, headers, json.dumps(listed).encode())

    def _answer_file(self, path: str) -> None:
        hub = self.files
        found = re.fullmatch(rf"/{hub.repository}/resolve/([^/]+)/(.+)", path)
        commit = self._commit(unquote(found[1])) if found else None
        if found is None or commit is None:
            return self._send(404, {"X-Error-Code": "RevisionNotFound" if found else "RepoNotFound"}, b"")
        data = hub.held.get(unquote(found[2]))
        if data is None:
            return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b"")
        name = hashlib.sha256(data).hexdigest()
        hub.storage_files.held[f"/{name}"] = data
        headers = {"X-Repo-Commit": commit, "X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{name}"'}
        return self._send(302, headers | {"Location": f"{hub.storage}/{name}?signature=secret"}, b"")

    def _commit(self, revision: str) -> str | None:
        hub = self.files
        return revision if revision in hub.commits.values() else hub.commits.get(revision)


@contextmanager
def serving(files: Files, host: str = "127.0.0.1") -> Iterator[str]:
    """A server of ``files`` on a free port; yields its address."""
    handler = type("Handler", (_HubHandler if isinstance(files, Hub) else _Handler,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


FAULTS = ("503", "reset", "hang", "short", "flip", "lie")
"""What a proxy does to an answer; ``short`` closes early, ``lie`` sends half of the bytes and says that was all."""


class FaultProxy:
    """Passes requests on and spoils the answers to those that ask for a range, as planned.

    The ``Host`` header is left alone, so a signature made for the proxy stays good behind it.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or "", parts.port or 80
        self.plan: list[str] = []
        """Faults of the next answers, first one first; afterwards all goes well."""
        self.always = ""
        """A fault of every answer."""
        self.ranges = 0
        """Range requests seen."""
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop, and let go of whoever still hangs."""
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._held:
            one.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            head = _read_head(client)
            fault = self._fault(head) if head else ""
            if fault == "503":
                client.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            elif head:
                self._spoil(client, fault, self._ask(head))
        if client not in self._held:
            client.close()

    def _fault(self, head: bytes) -> str:
        if b"\r\nrange:" not in head.lower():
            return ""
        self.ranges += 1
        return self.always or (self.plan.pop(0) if self.plan else "")

    def _ask(self, head: bytes) -> bytes:
        lines = [line for line in head.split(b"\r\n")[:-2] if not line.lower().startswith(b"connection:")]
        with socket.create_connection(self._upstream) as upstream:
            upstream.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
            return b"".join(iter(lambda: upstream.recv(1 << 16), b""))

    def _spoil(self, client: socket.socket, fault: str, answer: bytes) -> None:
        head, _, body = answer.partition(b"\r\n\r\n")
        half = len(body) // 2
        if fault == "flip" and body:
            body = body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :]
        elif fault == "lie":
            body = body[:half]
            head = re.sub(rb"(?i)content-length: \d+", b"Content-Length: %d" % half, head)
        elif fault in ("short", "reset"):
            body = body[:half]
        elif fault == "hang":
            self._held.append(client)
            client.sendall(head + b"\r\n\r\n" + body[:half])
            return
        client.sendall(head + b"\r\n\r\n" + body)
        if fault == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _read_head(client: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        part = client.recv(1 << 16)
        if not part:
            return b""
        head += part
    return head


def quoted(path: str) -> str:
    """A path as an address writes it."""
    return quote(path)
