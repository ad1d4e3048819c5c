"""Processes that claim jobs as fast as they can: for the stress test and the benchmark."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from typing import Any

from portal.catalog.jobs.queue import Offer, claim
from portal.catalog.jobs.rules import JobRules
from portal.database import create_database_engine
from portal.settings import Settings


@dataclass(frozen=True)
class Claims:
    """What all of them got."""

    jobs: list[tuple[int, int, int]]
    """(job, attempt, fence) of each lease."""
    seconds: float
    """From the moment all were ready to the last claim."""
    waits: list[float]
    """Seconds each claim took."""


def claim_all(settings: Settings, workers: list[tuple[int, str]], rules: JobRules | None = None) -> Claims:
    """One process for each worker (id, name), until there is nothing left."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(len(workers) + 1), context.Queue()
    settings_text = settings.model_dump_json(include={"data", "database_url"})
    per_person = rules.per_person if rules else 0
    processes = [
        context.Process(target=_claim, args=(settings_text, *worker, per_person, ready, results)) for worker in workers
    ]
    for process in processes:
        process.start()
    try:
        ready.wait(150)
        begun = time.monotonic()
        found = [results.get(timeout=120) for _ in processes]
        seconds = max(end for _, _, end in found) - begun
    finally:
        for process in processes:
            process.join(30)
            if process.is_alive():
                process.kill()
        results.close()
        results.join_thread()
    return Claims(
        sorted(job for jobs, _, _ in found for job in jobs), seconds, [w for _, waits, _ in found for w in waits]
    )


def _claim(settings_text: str, worker: int, name: str, per_person: int, ready: Any, results: Any) -> None:
    engine = create_database_engine(Settings.model_validate_json(settings_text))
    rules, offer = JobRules(per_person=per_person), Offer(worker, name, "process", "here", {}, 0)
    engine.connect().close()
    jobs, waits, last = [], [], 0.0
    ready.wait(150)
    while True:
        begun = time.monotonic()
        lease = claim(engine, offer, rules)
        if lease is None:
            break
        last = time.monotonic()
        waits.append(last - begun)
        jobs.append((lease.job, lease.attempt, lease.fence))
    results.put((jobs, waits, last or time.monotonic()))
    engine.dispose()
