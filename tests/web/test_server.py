"""Files that go from the page cache to a real client's socket: whole, in parts, to slow clients and to those that leave."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from portal.web import sending
from portal.web.sending import PIECE, ByteRange, SendFile
from portal.web.server import EXTENSION, SendfileProtocol

LENGTH = 9 * PIECE + 4321
HOST = "127.0.0.1"


@pytest.fixture
def body(tmp_path: Path) -> bytes:
    content = os.urandom(LENGTH)
    (tmp_path / "file").write_bytes(content)
    return content


@pytest.fixture
def port(tmp_path: Path, body: bytes) -> Iterator[int]:
    with _serving(_Files(tmp_path / "file")) as port:
        yield port


class _Files:
    """Serves one file; ``/promised`` claims more bytes than it has, ``/part`` is a piece of its middle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.direct: list[bool] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.direct.append(EXTENSION in scope.get("extensions", {}))
        span = {"/part": ByteRange(100, PIECE + 99), "/promised": ByteRange(0, LENGTH + 99)}.get(
            scope["path"], ByteRange(0, LENGTH - 1)
        )
        descriptor = os.open(self.path, os.O_RDONLY)
        await SendFile(descriptor, 200, {"Content-Length": str(span.length)}, span)(scope, receive, send)


@contextmanager
def _serving(app: _Files) -> Iterator[int]:
    listening = socket.create_server((HOST, 0))
    config = uvicorn.Config(app, http=SendfileProtocol, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listening.close()
    # Whatever the path: nobody but this process' own server may have been asked.
    assert all(app.direct)


def _read(link: socket.socket, pause: float = 0) -> tuple[bytes, bytes]:
    """Head and body of one answer, by its Content-Length; the body is shorter when the server hangs up."""
    file = link.makefile("rb")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = file.readline()
        assert line, "the server hung up"
        head += line
    length = int(next(h for h in head.lower().split(b"\r\n") if h.startswith(b"content-length")).split(b":")[1])
    parts: list[bytes] = []
    while (missing := length - sum(map(len, parts))) and (part := file.read1(min(missing, 1 << 16))):
        parts.append(part)
        time.sleep(pause)
    return head, b"".join(parts)


def _ask(port: int, *requests: str, pause: float = 0) -> list[bytes]:
    with socket.create_connection((HOST, port), timeout=30) as link:
        link.sendall("".join(f"{r} HTTP/1.1\r\nHost: x\r\n\r\n" for r in requests).encode())
        return [_read(link, pause)[1] for _ in requests]


@pytest.mark.parametrize("nowait", [sending._NOWAIT, 0])
def test_a_file_arrives_whole_and_the_connection_lives_on(
    port: int, body: bytes, monkeypatch: pytest.MonkeyPatch, nowait: int
) -> None:
    monkeypatch.setattr(sending, "_NOWAIT", nowait)
    # Sent together: the second answer must not overtake what the kernel still sends of the first.
    whole, part, again = _ask(port, "GET /", "GET /part", "GET /")
    assert whole == again == body
    assert part == body[100 : PIECE + 100]


def test_a_client_slower_than_the_disk_gets_every_byte(port: int, body: bytes) -> None:
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect((HOST, port))
        link.settimeout(30)
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert _read(link, pause=0.0002)[1] == body


def test_a_head_is_only_a_head(port: int) -> None:
    with socket.create_connection((HOST, port), timeout=30) as link:
        link.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: link.recv(1 << 16), b""))
    assert f"content-length: {LENGTH}".encode() in received.lower()
    assert received.endswith(b"\r\n\r\n")


def test_a_file_cut_short_ends_the_connection_instead_of_being_padded(port: int, body: bytes) -> None:
    assert _ask(port, "GET /promised") == [body]


def test_descriptors_of_clients_that_leave_are_closed(port: int, body: bytes) -> None:
    _ask(port, "GET /")
    before = _open_files()
    for _ in range(5):
        with socket.create_connection((HOST, port)) as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            link.recv(100)
    end = time.monotonic() + 20
    while _open_files() > before and time.monotonic() < end:
        _ask(port, "GET /part")
    assert _open_files() <= before
    assert _ask(port, "GET /") == [body]


def test_bytes_are_not_handed_to_the_kernel_without_a_length(tmp_path: Path, body: bytes) -> None:
    class Chunked(_Files):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            self.direct.append(EXTENSION in scope.get("extensions", {}))
            await SendFile(os.open(self.path, os.O_RDONLY), 200, {}, ByteRange(0, 99))(scope, receive, send)

    with _serving(Chunked(tmp_path / "file")) as port, socket.create_connection((HOST, port), timeout=30) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: link.recv(1 << 16), b""))
    assert received.endswith(b"\r\n\r\n64\r\n" + body[:100] + b"\r\n0\r\n\r\n")


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
