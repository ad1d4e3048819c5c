"""A portal with a private run beside a public one of the same shape, and addresses of every route about either."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from httpx import Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.catalog.jobs.attempts import AttemptKey, Beat, beat, keep_output
from portal.catalog.jobs.queue import claim
from portal.catalog.jobs.rules import JobRules
from portal.catalog.jobs.told import Point, append_log, keep_points
from portal.catalog.record import recording
from portal.catalog.visibility import close_run
from portal.settings import Settings
from portal.web.permissions import OF_A_FILE, OF_A_JOB, OF_A_RUN, PERMISSIONS, subject_of
from tests.builders import record, small_run
from tests.jobs.enqueued import put, worker

SECRET = "hiddengoose"
"""Stands in everything that belongs to the private run, and nowhere else."""
OPEN, PRIVATE, MISSING = "open/small", "lab/qqqqq", "lab/zzzzz"
CHILD, PRIVATE_CHILD = "open/child", "lab/qqqqq-child"
WEIGHTS = SECRET.encode() * 100
BEARERS = {
    "reader of lab": ("reader", "lab"),
    "publisher of lab": ("publisher", "lab"),
    "reviewer of lab": ("reviewer", "lab"),
    "reader of any": ("reader", None),
    "admin": ("admin", None),
    "reader of open": ("reader", "open"),
    "publisher of open": ("publisher", "open"),
    "reviewer of open": ("reviewer", "open"),
    "worker": ("worker", None),
    "worker of lab": ("worker", "lab"),
}


@dataclass(frozen=True)
class Things:
    """What an address names."""

    run: str
    sha256: str
    job: int


@dataclass
class PrivateLab:
    """The portal, who asks it, and what they ask for."""

    http: TestClient
    open: Things
    private: Things
    missing: Things
    attempt: str
    """The secret of an attempt of the private job."""
    tokens: dict[str, str] = field(default_factory=dict)

    def get(self, address: str, who: str | None = None, **headers: str) -> Response:
        """As one of `BEARERS`, or as anybody; redirects are not followed."""
        sent = {"Accept-Encoding": "identity", **headers} | (self.bearer(who) if who else {})
        return self.http.get(address, headers=sent, follow_redirects=False)

    def bearer(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.attempt if who == 'attempt' else self.tokens[who]}"}


def plant(http: TestClient, engine: Engine, settings: Settings, rules: JobRules, folder: Path) -> PrivateLab:
    """A public run, a private one of the same shape, runs that began from them, and a job on each."""
    small_run(engine, settings, folder / "open", OPEN)
    told = {
        "title": f"{SECRET} title",
        "description": f"{SECRET} description",
        "model": {"architecture": SECRET, "parameters": 1000, "vocabulary": 260},
        "events": [{"step": 7, "kind": "nan_loss", "note": SECRET}],
        "configs": [{"file": "train.yaml", "values": {SECRET: 1}, "first_step": 1}],
    }
    small_run(engine, settings, folder / "private", PRIVATE, **told)
    # Only this file is not, byte for byte, in the public run too.
    (folder / "private" / "step10" / "model.safetensors").write_bytes(WEIGHTS)
    small_run_again(engine, settings, folder / "private", told)
    soup = {"labels": ["soup"], "parents": [{"run": PRIVATE, "step": 10}, {"step": 5}], "location": "hf://open/x@soup"}
    record(engine, settings, {"run": CHILD, "parent": {"run": PRIVATE, "step": 10}, "checkpoints": [soup]})
    record(engine, settings, {"run": PRIVATE_CHILD, "title": SECRET, "parent": {"run": OPEN, "step": 10}})
    with recording(engine) as session:
        close_run(session, PRIVATE, "lab", "operator")
        close_run(session, PRIVATE_CHILD, "lab", "operator")
    data = {"kind": "original", "seed": 17, "plan": {"sha256": "b" * 64, "size": 1, "rows": 4, "steps": 1}, "files": []}
    jobs = [
        put(engine, rules, by=SECRET if run == PRIVATE else "ada", base=base_of(run), data=data)
        for run in (PRIVATE, OPEN)
    ]
    lease = claim(engine, worker(engine, rules, "box").offer(), rules)
    assert lease is not None
    assert lease.job == jobs[0]
    key = AttemptKey(lease.job, lease.attempt, lease.fence)
    beat(engine, key, Beat("running", 301), rules)
    keep_output(engine, key, 325, "partial", [{"path": SECRET, "sha256": "a" * 64, "size": 3}], rules)
    append_log(engine, key, 0, SECRET.encode(), rules)
    keep_points(engine, key, [Point(301, SECRET, 1.0)])
    made = {name: create_token(engine, role, None, organisation)[0] for name, (role, organisation) in BEARERS.items()}
    return PrivateLab(
        http,
        Things(OPEN, hashlib.sha256((folder / "open/step10/model.safetensors").read_bytes()).hexdigest(), jobs[1]),
        Things(PRIVATE, hashlib.sha256(WEIGHTS).hexdigest(), jobs[0]),
        Things(MISSING, "f" * 64, 9),
        lease.attempt_token,
        made,
    )


def small_run_again(engine: Engine, settings: Settings, folder: Path, told: dict[str, object]) -> None:
    """A second version over the files as they are now."""
    from tests.builders import SMALL, series_data

    document = SMALL | {"run": PRIVATE} | told | {"cadence": 10}
    series = [
        series_data("train/loss", range(1, 21), range(20), unit="nats"),
        series_data("lr", range(1, 21, 2), [0.1] * 10),
    ]
    record(engine, settings, document, folder, series)


def base_of(run: str) -> dict[str, object]:
    return {"run": run, "version": 1, "step": 300, "files": []}


def routes_about(method: str, *subjects: str) -> list[str]:
    """Templates of the routes that speak of one thing, by the permission table."""
    return [path for asked, path in PERMISSIONS if asked == method and subject_of(asked, path) in subjects]


ABOUT_ONE = routes_about("GET", OF_A_RUN, OF_A_FILE, OF_A_JOB)
_REST = {
    "/api/models/{rest:path}": "RUN/tree/main",
    "/api/datasets/{rest:path}": "RUN/revision/main",
    "/datasets/{org}/{name}/resolve/{rest:path}": "main/chunk_0.jsonl",
    "/{org}/{name}/resolve/{rest:path}": "step-10/model.safetensors",
}
_QUERIES = {
    "/runs/{org}/{name}/figure": "?series=train/loss",
    "/runs/{org}/{name}/figure.csv": "?series=train/loss",
    "/api/v1/runs/{org}/{name}/metrics/data": "?series=train/loss",
}


def address_of(path: str, things: Things) -> str:
    """The address of a route, about these things."""
    org, _, name = things.run.partition("/")
    filled = {
        **{"org": org, "name": name, "step": "10", "step:path": "10", "chunk:path": "chunk_0", "kind": "meta4"},
        **{"series:path": "train/loss", "key_id": "x", "row": "0", "span": "0-1", "revision:path": "main"},
        **{
            "sha256": things.sha256,
            "job": str(things.job),
            "rest:path": _REST.get(path, "").replace("RUN", things.run),
        },
    }
    if "{sha256}/{name}" in path:
        filled["name"] = "model.safetensors"
    address = re.sub(r"\{([^}]*)\}", lambda found: filled.get(found[1], "x"), path)
    return address + _QUERIES.get(path, "")
