"""Uploads: one file of 1 GB through `portal serve`, against the same bytes put to a bare server in the same run.

The floor is `_bare`: asyncio, one connection, the body written to a file as it comes, neither hashed nor flushed to disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from portal.catalog.accounts import create_token
from portal.client import Portal
from portal.client.upload import upload_blob
from portal.database import create_database_engine, migrate
from portal.settings import Settings

FILE_BYTES = 1_000_000_000
ROUNDS = 3


def main() -> None:
    """Print MB/s of both, the best of the rounds, because the machine may be shared."""
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder))


def _measure(folder: Path) -> None:
    source = folder / "file"
    floor: list[float] = []
    hashed: list[float] = []
    ours: list[float] = []
    used = [0.0, 0.0]
    bare_port, portal_port = _free_port(), _free_port()
    bare = multiprocessing.get_context("spawn").Process(target=_bare, args=(bare_port, str(folder / "bare")))
    bare.start()
    settings = Settings(data=folder / "data")
    engine = create_database_engine(settings)
    migrate(engine)
    token, _ = create_token(engine, "publisher")
    engine.dispose()
    portal = subprocess.Popen(
        [sys.executable, "-m", "portal", "serve", "--port", str(portal_port)],
        env={**os.environ, "PORTAL_DATA": str(settings.data), "PORTAL_RATES": "off"},
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait(bare_port)
        _wait(portal_port)
        with Portal(f"http://127.0.0.1:{portal_port}", token, timeout=300) as api:
            for _ in range(ROUNDS):
                _write(source)
                sha256 = _spent(lambda: _sha256(source))
                hashed.append(sha256[0])
                used[0] -= _cpu(bare.pid)
                floor.append(_spent(lambda: _put(bare_port, source))[0])
                used[0] += _cpu(bare.pid)
                name = sha256[1]
                used[1] -= _cpu(portal.pid)
                ours.append(_spent(lambda name=name: upload_blob(api, source, name, FILE_BYTES))[0])  # type: ignore[misc]
                used[1] += _cpu(portal.pid)
                _forget(settings.data, name)
    finally:
        for process in (bare, portal):
            process.terminate()
            process.wait() if isinstance(process, subprocess.Popen) else process.join()
    size = FILE_BYTES / 1e6
    print(f"sending one file of {size:,.0f} MB over loopback, client and server on {os.cpu_count()} cores:")
    print(f"  portal (hashed, flushed to disk, visible): {size / min(ours):,.0f} MB/s")
    print(
        f"  bare PUT to a file (neither): {size / min(floor):,.0f} MB/s; portal / bare: {min(floor) / min(ours):.2f}x"
    )
    spent = [seconds / ROUNDS / (FILE_BYTES / 1e9) for seconds in used]
    print(f"  CPU of the server: portal {spent[1]:.2f} s/GB, bare {spent[0]:.2f} s/GB")
    print(
        f"  sha256 of the file alone, one core: {size / min(hashed):,.0f} MB/s; portal / sha256: {min(hashed) / min(ours):.2f}x"
    )


def _cpu(pid: int | None) -> float:
    """User and system seconds of another process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spent(work: Callable[[], object]) -> tuple[float, str]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, str(found)


def _write(path: Path) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as stream:
        for number in range(0, FILE_BYTES, len(block)):
            stream.write((block[:-8] + number.to_bytes(8, "little"))[: FILE_BYTES - number])


def _sha256(path: Path) -> str:
    with path.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _put(port: int, path: Path) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, blocksize=1 << 20)
    with path.open("rb", buffering=0) as stream:
        connection.request("PUT", "/file", stream, {"Content-Length": str(FILE_BYTES)})
        assert connection.getresponse().status == 201
    connection.close()


def _bare(port: int, target: str) -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # somebody looked whether the port is open
            writer.close()
            return
        left = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        with open(target, "wb", buffering=0) as stream:
            while left:
                part = await reader.read(1 << 20)
                if not part:
                    break
                stream.write(part)
                left -= len(part)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(take, "127.0.0.1", port, limit=4 << 20)
        await server.serve_forever()

    asyncio.run(serve())


def _forget(data: Path, sha256: str) -> None:
    """Make room: each round sends another file."""
    for path in (data / "store" / "blobs").rglob(f"{sha256}*"):
        path.unlink()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


if __name__ == "__main__":
    main()
