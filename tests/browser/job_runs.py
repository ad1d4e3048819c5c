"""Jobs in every state for the pages to be looked at with: put straight into a portal's own queue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import update

from portal.catalog.accounts import Caller
from portal.catalog.jobs.attempts import AttemptKey, Beat, Completion, beat, end
from portal.catalog.jobs.finishing import Result, succeed
from portal.catalog.jobs.queue import Lease, Offer, claim
from portal.catalog.jobs.rules import JobRules
from portal.catalog.jobs.told import Point, append_log, keep_points
from portal.catalog.jobs.workers import Attached, attach
from portal.database import Engine
from portal.jobs.preflight import submit_job
from portal.jobs.requests import JobRequest
from portal.models import Job
from portal.settings import Settings
from tests.jobs.tiny_run import tiny_run

RUN = "lab/tiny"
RUNNING, DONE, FAILED, QUEUED = 1, 2, 3, 4
"""Numbers of the jobs, in the order they were submitted."""
EVIDENCE: dict[str, Any] = {
    "verdict": "diverged",
    "sentence": "It left the published run at step 17: 6 of 10 losses are the same bit for bit, at most 0.21 apart.",
    "tolerance": {"loss": 1e-4, "weights": 1e-4, "cosine": 0.999999},
    "losses": {"series": "loss", "compared": 10, "equal": 6, "max_abs": 0.21, "max_abs_step": 19, "first_different": 17, "left_at": 17},
    "checkpoints": [
        {"step": 20, "weights": {"compared": 3, "equal": 1, "max_abs": 0.03, "worst": "model.layer.weight", "cosine": 0.998, "unlike": []}, "optimizer": None, "note": ""}
    ],
    "environment_differs": [{"key": "torch", "run": "2.8.0", "job": "2.9.0"}],
    "left_at": 17,
}  # fmt: skip


def fill_jobs(engine: Engine, settings: Settings, folder: Path) -> None:
    """A made run, workers, and jobs that run, ended well and badly, and wait."""
    made = tiny_run(engine, settings, folder, RUN)
    rules = JobRules()
    ada = Caller(None, "ada", "publisher")
    for asked in (
        {"step": 10, "steps": 20},
        {"step": 10, "kind": "replay"},
        {"step": 20},
        {"step": 0, "set": {"lr": 0.02}},
    ):
        submit_job(engine, settings, JobRequest(run=RUN, **asked), ada, rules, None)
    worker, _ = attach(
        engine,
        None,
        Attached(
            "lab-a100",
            "slurm",
            8,
            {"site": "a", "gpu": "a100"},
            "0.1",
            {"torch": "2.9.0", "transformers": "5.0", "python": "3.12"},
            "login1",
        ),
        rules,
    )
    attach(engine, None, Attached("desk", "process", 0, {}, "0.1", {"python": "3.12"}, "desk"), rules)
    offer = Offer(worker, "lab-a100", "slurm", "login1", {}, 8)
    leases = [lease for lease in (claim(engine, offer, rules) for _ in range(3)) if lease is not None]
    running, done, failed = leases
    losses = [float(x) for x in made.losses]
    _train(engine, running, rules, losses, 17)
    _train(engine, done, rules, losses, 20)
    _train(engine, failed, rules, losses, 23)
    said = Completion(
        "failed", 1, False, "The trainer ended with exit code 1: CUDA error: an illegal memory access", {}, None, "x"
    )
    end(engine, _key(failed), "failed", said, rules)
    _succeed(engine, done, rules)


def _train(engine: Engine, lease: Lease, rules: JobRules, losses: list[float], upto: int) -> None:
    key = _key(lease)
    beat(engine, key, Beat("running", upto, "4711", None, "node7"), rules)
    first = lease.spec["first_step"]
    points = [Point(s, "loss", losses[s - 1] + (0.05 if s > 16 else 0)) for s in range(first, upto + 1)]
    keep_points(engine, key, [*points, *(Point(p.step, "grad_norm", 1.0) for p in points)])
    text = "".join(f"step {p.step}  loss {p.value:.4f}  lr 0.01\n" for p in points)
    append_log(engine, key, 0, f"\x1b[32mready\x1b[0m: torch 2.9, 1 thread\n{text}".encode(), rules)


def _succeed(engine: Engine, lease: Lease, rules: JobRules) -> None:
    with engine.begin() as connection:
        accepted = {"state": "publishing", "accepted": 1, "lease_until_ms": None}
        connection.execute(update(Job).where(Job.id == lease.job).values(**accepted))  # type: ignore[arg-type]
    succeed(engine, lease.job, Result("derived/tiny-s10-j2", 1, "diverged", EVIDENCE), rules)


def _key(lease: Lease) -> AttemptKey:
    return AttemptKey(lease.job, lease.attempt, lease.fence)
