"""Jobs put straight into the queue, for tests of what comes after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from portal.catalog.accounts import create_token
from portal.catalog.jobs.queue import Lease, NewJob, Offer, claim, enqueue
from portal.catalog.jobs.rules import JobRules
from portal.catalog.jobs.workers import Attached, attach


@dataclass
class Clock:
    """Time that passes when a test says so; milliseconds."""

    ms: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms

    def pass_seconds(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


def made_spec(first_step: int = 301, last_step: int = 350, **changes: Any) -> dict[str, Any]:
    """A spec whose files do not exist: enough for the queue."""
    spec: dict[str, Any] = {
        "format": "llm360-portal/job/1",
        "kind": "resume",
        "base": {"run": "demo/tiny", "version": 1, "step": first_step - 1, "files": []},
        "first_step": first_step,
        "last_step": last_step,
        "data": {"kind": "original", "seed": 17, "plan": None, "files": []},
        "tokenizer": None,
        "training": {},
        "changes": [],
        "missing": [],
        "save_every": 25,
        "resources": {"gpus": 0, "memory": 0, "disk": 0, "seconds": 3600},
        "labels": {},
        "fidelity": "exact",
        "trainer": "portal.trainer",
    }
    return {**spec, **changes}


def put(engine: Engine, rules: JobRules, by: str = "ada", priority: int = 0, **changes: Any) -> int:
    """Enqueue a made spec; the job's number."""
    return enqueue(engine, NewJob(made_spec(**changes), by, priority), rules)[0]


@dataclass
class Attachment:
    """A worker of a test."""

    id: int
    name: str
    secret: str
    token_id: int
    labels: dict[str, str] = field(default_factory=dict)

    def offer(self, free_gpus: int = 0) -> Offer:
        return Offer(self.id, self.name, "process", "here", self.labels, free_gpus)


def worker(engine: Engine, rules: JobRules, name: str = "w1", labels: dict[str, str] | None = None) -> Attachment:
    """Attach a worker with a token of its own."""
    secret, _view = create_token(engine, "worker", f"token-{name}")
    with engine.connect() as connection:
        token_id = connection.exec_driver_sql("SELECT max(id) FROM api_token").scalar_one()
    worker_id, _ = attach(engine, token_id, Attached(name, "process", 0, labels or {}, "0", {}, "here"), rules)
    return Attachment(worker_id, name, secret, token_id, labels or {})


def taken(engine: Engine, rules: JobRules, by: Attachment) -> Lease:
    """The lease of the next job, which must be there."""
    lease = claim(engine, by.offer(), rules)
    assert lease is not None
    return lease


def rules_at(clock: Callable[[], int], **changes: Any) -> JobRules:
    """The rules as shipped, by a test's clock."""
    return JobRules(clock=clock, **changes)
