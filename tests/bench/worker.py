"""What a worker costs: the whole machinery around the tiny trainer in seconds, and heartbeats and shipping in throughput.

The trainer alone, on the very input that a worker lays out, is timed in the same run.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from portal.worker.calls import AttemptCalls, WorkerCalls
from portal.worker.spool import Lease, Spool
from portal.worker.staging import stage
from portal.worker.training import trainer_command, trainer_environment
from tests.flows.live import QUICK, LivePortal, LiveWorker
from tests.trainer_environment import is_built, trainer_python

ROUNDS = 2
SHORT, LONG = 50, 250
"""Steps of the two jobs of a round: what grows with the steps is the cost of heartbeats and shipping."""


def main() -> None:
    """Print overhead and throughput; ends where the trainer's environment is not built."""
    if not is_built():
        print("The trainer's environment is missing: python -m tests.trainer_environment")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # with everything that was started
    folder = Path(tempfile.mkdtemp(prefix="bench-worker-"))
    print("steps  trainer alone: s, CPU s   as a job: s, CPU s of agent and runner", flush=True)
    portal = LivePortal(folder)
    for name in QUICK:  # as an operator has it
        del portal.environment[name]
    try:
        portal.start()
        rounds = [(_round(portal, SHORT), _round(portal, LONG)) for _ in range(ROUNDS)]
    finally:
        portal.close()
        shutil.rmtree(folder, ignore_errors=True)
    _report(rounds)


def _report(rounds: list[tuple[Costs, Costs]]) -> None:
    print(
        f"demo/tiny, {SHORT} and {LONG} steps, {ROUNDS} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    overhead = statistics.median(long.job_s - long.alone_s for _, long in rounds)
    fixed = statistics.median(short.job_cpu for short, _ in rounds)
    grows = statistics.median(
        (long.job_cpu - short.job_cpu) / (long.alone_cpu - short.alone_cpu) for short, long in rounds
    )
    ratio = max(long.job_tokens for _, long in rounds) / max(long.alone_tokens for _, long in rounds)
    print(f"overhead of a job: {overhead:.2f} s median of wall time (at most 5), {fixed:.2f} s of CPU")
    print(f"heartbeats and shipping: {100 * grows:.1f} % of the trainer's CPU (at most 2)")
    print(f"tokens/s, best by a worker against best alone: {ratio:.3f} (at least 0.98)")


@dataclass(frozen=True)
class Costs:
    """One job, and the trainer alone on its input."""

    steps: int
    alone_s: float
    alone_cpu: float
    alone_tokens: float
    job_s: float
    job_cpu: float
    job_tokens: float


def _round(portal: LivePortal, steps: int) -> Costs:
    job = portal.submit(kind="resume", step=50, steps=steps, save_every=1000)
    alone = _alone(portal, job)
    worker = LiveWorker(portal, f"w{job}", ["--gpus", "0", "--once"])
    try:
        worker.start()
        used = 0.0
        while (ended := portal.job(job)).get("state") not in ("succeeded", "failed"):
            used = _used(worker) or used
            time.sleep(0.1)
    except BaseException:
        worker.close()
        raise
    worker.wait()
    assert ended["state"] == "succeeded", ended["message"]
    attempt = ended["attempt_list"][-1]
    took = (_moment(attempt["ended_at"]) - _moment(attempt["started_at"])).total_seconds()
    tokens = attempt["environment"]["result"]["tokens_per_second"]
    used += attempt["environment"]["shipping"]["cpu_seconds"]
    costs = Costs(steps, alone["wall"], alone["cpu"], alone["tokens_per_second"], took, used, tokens)
    print(
        f"{steps:5}  {costs.alone_s:16.2f} {costs.alone_cpu:7.2f} {costs.job_s:12.2f} {costs.job_cpu:7.2f}", flush=True
    )
    return costs


def _used(worker: LiveWorker) -> float | None:
    """CPU seconds of the agent alone."""
    assert worker.process is not None
    try:
        times = psutil.Process(worker.process.pid).cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


def _alone(portal: LivePortal, number: int) -> dict[str, Any]:
    """Lease the job by hand, lay its input out, time the trainer on it, and give the job back."""
    calls = WorkerCalls(portal.url, portal.worker_token)
    told = calls.attach({"name": f"bench-{number}", "executor": "process"})
    found = calls.lease(int(told["worker"]), {"free_slots": 1, "wait": 10})
    assert found is not None
    kept = {k: found[k] for k in ("job", "attempt", "fence", "attempt_token", "spec", "plan_url", "files", "resume")}
    lease = Lease(
        url=portal.url,
        lease_seconds=15,
        heartbeat_seconds=1,
        staging="direct",
        python=str(trainer_python()),
        cache_bytes=1 << 30,
        offline_grace=60,
        **kept,
    )
    attempt = AttemptCalls(lease)
    spool = Spool.of(portal.folder / f"alone-{number}" / "attempts", lease.job, lease.attempt)
    spool.folder.mkdir(parents=True)
    stage(spool, lease, lambda: None, lambda _: None)
    attempt.complete({"outcome": "preempted", "message": "Only its input was wanted."})
    attempt.close()
    calls.close()
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (spool.folder / "log.txt").open("wb") as log:
        subprocess.run(
            trainer_command(lease, spool.folder), env=trainer_environment(lease, spool.folder), stdout=log, check=True
        )
    result: dict[str, Any] = json.loads((spool.output / "result.json").read_text())
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**result, "wall": wall, "cpu": cpu}


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


if __name__ == "__main__":
    main()
