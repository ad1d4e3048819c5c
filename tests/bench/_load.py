"""Load and clocks: wrk, sockets that throw away what they get, servers started and stopped."""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(folder: str) -> Iterator[int]:
    """The port of a server over ``folder`` (``-``: the floor)."""
    port = free_port()
    with _running([sys.executable, "-m", "tests.bench._serve", str(port), folder], port):
        yield port


@contextmanager
def nginx(root: Path) -> Iterator[int]:
    """The port of an nginx with sendfile over ``root``; one worker, as the portal has one process."""
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "nginx.conf"
        paths = "".join(
            f"{kind}_temp_path {scratch}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # A worker that drops root's rights could not read a temporary folder.
        owner = "user root; " if os.geteuid() == 0 else ""
        config.write_text(
            f"{owner}daemon off; worker_processes 1; pid {scratch}/pid; error_log {scratch}/error; events {{}}\n"
            f"http {{ sendfile on; access_log off; {paths} server {{ listen {HOST}:{port}; root {root}; }} }}\n"
        )
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        with _running([program, "-p", scratch, "-c", str(config), "-e", f"{scratch}/error"], port):
            yield port


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command)
    try:
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def wrk(port: int, path: str, connections: int, script: str = "", seconds: float = 2) -> float:
    """Requests per second over ``connections``; ``script`` is Lua that makes the paths. Fails on any other status than 200."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *(["-s", file.name] if script else [])]
        told = subprocess.run(
            [*command, f"http://{HOST}:{port}{path}"], capture_output=True, text=True, check=True
        ).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(told)
    found = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert found is not None, told
    return float(found[1])


def ratio(ours: Callable[[], float], floor: Callable[[], float], rounds: int = 3) -> tuple[float, float, float]:
    """(median of ours/floor, ours, floor) over interleaved rounds."""
    pairs = []
    for k in range(rounds):
        first, second = (ours, floor) if k % 2 else (floor, ours)
        a, b = first(), second()
        pairs.append((a, b) if k % 2 else (b, a))
    return (
        statistics.median(a / b for a, b in pairs),
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
    )


class Asker:
    """One connection that is kept, for requests one after the other."""

    def __init__(self, port: int) -> None:
        self._link = socket.create_connection((HOST, port))
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, path: str, headers: str = "") -> tuple[float, int]:
        """Seconds until the whole answer is here, and its bytes; fails on another status than 200 and 206."""
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{headers}\r\n".encode()
        begin = time.perf_counter()
        self._link.sendall(request)
        answer = self._link.recv(1 << 16)
        while b"\r\n\r\n" not in answer:
            answer += self._link.recv(1 << 16)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        left = length - len(body)
        while left:
            left -= self._link.recv_into(_RECEIVED, min(left, len(_RECEIVED)))
        taken = time.perf_counter() - begin
        if head.split(b" ", 2)[1] not in (b"200", b"206"):
            raise RuntimeError(f"{path}: {answer[:300]!r}")
        return taken, length

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


def quiet_ratio(
    ours: int, floor: int, paths: Iterator[str], before: str = "", rounds: int = 400
) -> tuple[tuple[float, float, float], int]:
    """((ours/floor, ours, floor), bytes of the last answer) in seconds, for each of the next ``paths`` asked of
    ``ours`` and as many bytes asked of ``floor``, in turns. ``before`` is asked, off the clock, before each.

    Of both the first decile: neighbours on the machine only ever add time, and add it to either side.
    """
    left, right = Asker(ours), Asker(floor)
    times: tuple[list[float], list[float]] = [], []
    size = 0
    for k in range(rounds):
        if before:
            left.ask(before)
        taken, size = left.ask(next(paths))
        # The first of a turn finds the other server's data in the processor's caches.
        if k % TURN:
            times[0].append(taken)
        else:
            times[1].extend(right.ask(f"/floor/{size}")[0] for _ in range(TURN + 1))
    left.close()
    right.close()
    a, b = (statistics.quantiles(column, n=10)[0] for column in times)
    return (a / b, a, b), size


TURN = 20
"""Requests to one server before the other has its turn."""


def get(port: int, path: str) -> bytes:
    """The body of one answer; fails on another status than 200."""
    with socket.create_connection((HOST, port)) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: link.recv(1 << 20), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(f"{path}: {head[:200]!r} {body[:300]!r}")
    return body


def download(port: int, path: str, streams: int) -> float:
    """MB/s of ``streams`` downloads at once; the kernel throws the bytes away, so that the server is measured."""
    total = [0] * streams
    threads = [threading.Thread(target=_discard, args=(port, path, total, k)) for k in range(streams)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(total) / (time.perf_counter() - begin) / 1e6


def _discard(port: int, path: str, total: list[int], k: int) -> None:
    with socket.create_connection((HOST, port)) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        if b" 200 " not in link.recv(64, socket.MSG_PEEK):
            raise RuntimeError(f"{path} was refused on port {port}")
        while count := link.recv_into(_BUFFER, len(_BUFFER), socket.MSG_TRUNC):
            total[k] += count


_BUFFER = bytearray(1 << 20)
"""Never filled: with MSG_TRUNC the kernel only counts."""
_RECEIVED = bytearray(1 << 20)
"""Filled with answers of at most so many bytes, as a client would have them."""


def latencies(port: int, path: str, seconds: float) -> list[float]:
    """Milliseconds of one request after the other on one connection, sorted."""
    found = []
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with socket.create_connection((HOST, port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begin = time.perf_counter()
            link.sendall(request)
            answer = link.recv(1 << 16)
            while b"\r\n\r\n" not in answer:
                answer += link.recv(1 << 16)
            found.append((time.perf_counter() - begin) * 1e3)
            time.sleep(0.002)
    return sorted(found)
