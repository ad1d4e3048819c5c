"""``python -m tests.bench job_pages``: lists of 200 workers and 10,000 jobs, and 200 people who watch one job.

Goals: a list in at most 100 ms at the median, 304 where nothing changed; watchers miss nothing and hear nothing twice, however
often their lines are cut, and no thread waits for any of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from sqlalchemy import Engine, insert

from portal.catalog.jobs.attempts import AttemptKey, Completion, end
from portal.catalog.jobs.rules import ENDED, FAILED, RUNNING, JobRules
from portal.catalog.jobs.told import append_log
from portal.catalog.jobs.workers import Attached, attach
from portal.database import create_database_engine, migrate
from portal.manifest.canonical import canonical_bytes
from portal.models import Job
from portal.settings import Settings
from tests.bench._load import HOST, served
from tests.jobs.enqueued import made_spec, put, taken, worker

JOBS, WORKERS, WATCHERS = 10_000, 200, 200
ROUNDS = 15
PIECES, PAUSE_S = 60, 0.25
PATHS = ("/jobs", "/jobs?state=live", "/jobs?cursor=5000", "/workers", "/api/v1/jobs", "/api/v1/workers?limit=200")


def main() -> None:
    """Measure and print."""
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, SQLite")
    with tempfile.TemporaryDirectory() as scratch:
        engine = create_database_engine(Settings(data=Path(scratch)))
        migrate(engine)
        fill(engine)
        with served(scratch) as port:
            bench_lists(port)
            asyncio.run(bench_watchers(engine, port))
        engine.dispose()


def fill(engine: Engine) -> None:
    """Workers, and jobs of which one in fifty runs."""
    rules = JobRules()
    spec = canonical_bytes(made_spec()).decode()
    names = ("priority", "gpus", "fence", "attempts", "failures", "stalls", "not_before_ms", "told")
    same = {
        **dict.fromkeys(names, 0),
        **{"kind": "resume", "run": "demo/tiny", "version": 1, "step": 300, "first_step": 301, "last_step": 350},
        **{"spec": spec, "spec_digest": "", "submitted_by": "ada", "request_digest": "", "needs": "", "message": ""},
        **{"cancel_force": False, "fidelity": {}},
    }
    states = [ENDED[k % len(ENDED)] if k % 50 else RUNNING for k in range(JOBS)]
    with engine.begin() as connection:
        connection.execute(insert(Job), [{**same, "state": states[k], "created_ms": k} for k in range(JOBS)])
    about = {"torch": "2.13", "transformers": "5.23"}
    for k in range(WORKERS):
        attach(engine, None, Attached(f"node-{k:03d}", "slurm", 8, {"site": "a"}, "1", about, "host"), rules)


def bench_lists(port: int) -> None:
    """One reader after the other."""
    with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=60) as http:
        for path in PATHS:
            http.get(path)
            times = []
            for _ in range(ROUNDS):
                begun = time.perf_counter()
                answer = http.get(path)
                times.append(time.perf_counter() - begun)
                assert answer.status_code == 200, answer.text
            again = http.get(path, headers={"If-None-Match": answer.headers.get("etag", "")}).status_code
            told = f", asked again with its ETag {again}" if path.startswith("/api") else ""
            median, longest = statistics.median(times) * 1000, max(times) * 1000
            print(f"{path:<28} {median:6.1f} ms median, {longest:6.1f} ms longest, {len(answer.content):,} bytes{told}")


@dataclass
class Watcher:
    """Somebody whose line is cut now and then."""

    cuts: int = 0
    numbers: list[int] = field(default_factory=list)
    text: str = ""
    delays: list[float] = field(default_factory=list)

    async def watch(self, http: httpx.AsyncClient, job: int, moments: random.Random) -> None:
        """Until the end of the job."""
        while True:
            last = {"Last-Event-ID": str(self.numbers[-1])} if self.numbers else {}
            async with http.stream("GET", f"/api/v1/jobs/{job}/events", headers=last) as answer:
                if await self._hear(answer, time.monotonic() + moments.uniform(2, 12)):
                    return
            self.cuts += 1

    async def _hear(self, answer: httpx.Response, until: float) -> bool:
        number, kind = 0, ""
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                if kind == "end":
                    return True
                self.numbers.append(number)
                if kind == "log":
                    self._read(json.loads(line[6:])["text"])
            elif not line and time.monotonic() > until:
                return False
        return False

    def _read(self, text: str) -> None:
        self.text += text
        self.delays += [time.time() - float(line.split()[-1]) for line in text.splitlines()]


async def bench_watchers(engine: Engine, port: int) -> None:
    """All watch one job that writes four lines a second."""
    rules = JobRules()
    job = put(engine, rules, priority=99)
    lease = taken(engine, rules, worker(engine, rules, "writer"))
    assert lease.job == job
    process = next(c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.pid)
    portal, moments = psutil.Process(process), random.Random(7)
    watchers = [Watcher() for _ in range(WATCHERS)]
    limits = httpx.Limits(max_connections=None)
    transport = httpx.AsyncHTTPTransport(limits=limits, retries=3)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}:{port}", timeout=60) as http:
        tasks = [asyncio.create_task(w.watch(http, job, moments)) for w in watchers]
        await asyncio.sleep(3)
        before, begun = sum(portal.cpu_times()[:2]), time.monotonic()
        wrote = await asyncio.to_thread(_write, engine, AttemptKey(job, lease.attempt, lease.fence), rules)
        used, seconds = sum(portal.cpu_times()[:2]) - before, time.monotonic() - begun
        threads = portal.num_threads()
        await asyncio.gather(*tasks)
    for watcher in watchers:
        assert watcher.text == wrote, "a watcher missed something"
        assert watcher.numbers == sorted(set(watcher.numbers)), "a watcher heard something twice"
    delays = sorted(d for w in watchers for d in w.delays)
    print(
        f"{WATCHERS} watchers of one job, {PIECES / seconds:.1f} events/s, {sum(w.cuts for w in watchers)} cuts: each heard all"
        f" {PIECES} pieces once; {used / seconds:.0%} of one core, {threads} threads, delay p50"
        f" {statistics.median(delays) * 1000:.0f} ms, p99 {delays[int(len(delays) * 0.99)] * 1000:.0f} ms"
    )


def _write(engine: Engine, key: AttemptKey, rules: JobRules) -> str:
    text, offset = "", 0
    for k in range(PIECES):
        line = f"step {301 + k} {time.time():.3f}\n"
        offset = append_log(engine, key, offset, line.encode(), rules)
        text += line
        time.sleep(PAUSE_S)
    end(engine, key, FAILED, Completion(FAILED, 1, False, "over", {}, None, "x"), rules)
    return text


if __name__ == "__main__":
    main()
