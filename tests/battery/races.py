"""Many clients at the same thing at the same moment, over both databases: exactly one wins, the others are told."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.battery.figures import Figures, Scale
from tests.battery.portals import DATABASES, Portal, a_portal
from tests.battery.publishers import release
from tests.battery.wire import Answer, Probe, Wire

CLIENTS = 12


def run(scale: Scale) -> Figures:
    """Rounds of each race on each database."""
    figures = Figures(f"races of {CLIENTS} clients: name, digest, idempotency key, lease, cancel and retry")
    rounds = scale.pick(1, 12, 200)
    for database in DATABASES:
        with a_portal(database) as portal:
            for number in range(rounds):
                for race in RACES:
                    said = race(portal, random.Random(f"{database} {number}"), number)
                    figures.tried += 1
                    figures.wrong += [f"{race.__name__.strip('_')} ({database}, {number}): {said}"] if said else []
            if not portal.answers():
                figures.wrong.append(f"the portal over {database} does not answer any more")
    return figures


def _at_once(portal: Portal, probes: list[Probe]) -> list[Answer]:
    """All of them at the same moment."""
    ready = threading.Barrier(len(probes))

    def one(probe: Probe) -> Answer:
        wire = Wire(portal.port)
        ready.wait()
        try:
            return wire.ask(probe)
        finally:
            wire.close()

    with ThreadPoolExecutor(len(probes)) as pool:
        return list(pool.map(one, probes))


def _headers(portal: Portal, role: str = "publisher", key: str = "") -> dict[str, str]:
    told = {"Authorization": f"Bearer {portal.tokens[role]}", "Content-Type": "application/json"}
    return told | ({"Idempotency-Key": key} if key else {})


def _put(portal: Portal, content: bytes) -> Probe:
    return Probe("PUT", f"/api/v1/blobs/{hashlib.sha256(content).hexdigest()}", _headers(portal), content)


def _same_name(portal: Portal, dice: random.Random, number: int) -> str:
    """One run, other contents, all to be its first version."""
    contents = [dice.randbytes(40) for _ in range(CLIENTS)]
    for content in contents:
        Wire(portal.port).ask(_put(portal, content))
    run = f"lab/name-{number}"
    told = _at_once(
        portal, [Probe("POST", "/api/v1/releases", _headers(portal), release(run, c, after=0)) for c in contents]
    )
    counts = Counter(a.status for a in told)
    codes = {a.json()["code"] for a in told if a.status == 409}
    version = Wire(portal.port).ask(Probe("GET", f"/api/v1/runs/{run}")).json()
    if counts != {201: 1, 409: CLIENTS - 1} or codes != {"version-taken"}:
        return f"{dict(counts)} {codes}"
    return "" if _version(version) == 1 else f"version {version}"


def _same_digest(portal: Portal, dice: random.Random, _number: int) -> str:
    """The same bytes from all."""
    content = dice.randbytes(200_000)
    told = _at_once(portal, [_put(portal, content)] * CLIENTS)
    counts = Counter(a.status for a in told)
    if not counts[201] or set(counts) - {200, 201, 409}:
        return f"{dict(counts)}"
    again = Wire(portal.port).ask(_put(portal, content))
    return "" if again.status == 200 else f"afterwards {again.status}"


def _same_key(portal: Portal, dice: random.Random, number: int) -> str:
    """One request sent by all."""
    content, run = dice.randbytes(40), f"lab/key-{number}"
    Wire(portal.port).ask(_put(portal, content))
    body = release(run, content)
    told = _at_once(portal, [Probe("POST", "/api/v1/releases", _headers(portal, key=run), body)] * CLIENTS)
    answers = {a.body for a in told if a.status < 300}
    if {a.status for a in told} != {201} or len(answers) != 1:
        return f"{Counter(a.status for a in told)} with {len(answers)} answers"
    other = Wire(portal.port).ask(Probe("POST", "/api/v1/releases", _headers(portal, key=run), release(run, b"other")))
    return "" if other.status == 422 else f"another body under the same key: {other.status}"


def _leases(portal: Portal, _dice: random.Random, number: int) -> str:
    """Workers at a queue of fewer jobs: each job to one of them."""
    from portal.catalog.jobs.rules import JobRules
    from portal.database import create_database_engine
    from tests.jobs.enqueued import put

    engine = create_database_engine(portal.settings)
    jobs = {put(engine, JobRules(), by=f"race-{number}") for _ in range(5)}
    engine.dispose()
    workers = []
    for k in range(CLIENTS):
        body = f'{{"name": "race-{number}-{k}"}}'.encode()
        workers.append(
            Wire(portal.port).ask(Probe("POST", "/api/v1/workers", _headers(portal, "worker"), body)).json()["worker"]
        )
    asked = [
        Probe("POST", f"/api/v1/workers/{w}/lease", _headers(portal, "worker"), b'{"free_slots": 1, "wait": 0}')
        for w in workers
    ]
    leased = [a.json()["job"] for a in _at_once(portal, asked) if a.status == 200]
    # Whoever found the queue taken for the moment asks again.
    leased += [a.json()["job"] for a in (Wire(portal.port).ask(p) for p in asked * 2) if a.status == 200]
    if len(leased) != len(set(leased)):
        return f"leased twice: {sorted(leased)}"
    return "" if jobs <= set(leased) else f"never leased: {sorted(jobs - set(leased))}"


def _cancel_and_lease(portal: Portal, _dice: random.Random, number: int) -> str:
    """A job that is cancelled while workers ask for it: cancelled in the end, whoever came first."""
    from portal.catalog.jobs.rules import JobRules
    from portal.database import create_database_engine
    from tests.jobs.enqueued import put

    engine = create_database_engine(portal.settings)
    job = put(engine, JobRules(), by="battery-publisher")
    engine.dispose()
    body = f'{{"name": "cancel-{number}"}}'.encode()
    worker = Wire(portal.port).ask(Probe("POST", "/api/v1/workers", _headers(portal, "worker"), body)).json()["worker"]
    lease = Probe(
        "POST", f"/api/v1/workers/{worker}/lease", _headers(portal, "worker"), b'{"free_slots": 1, "wait": 0}'
    )
    cancel = Probe("POST", f"/api/v1/jobs/{job}/cancel", _headers(portal), b'{"force": true}')
    told = _at_once(portal, [lease, cancel] * 3)
    if any(a.status >= 500 or a.status == 0 for a in told):
        return f"{[a.status for a in told]}"
    state = Wire(portal.port).ask(Probe("GET", f"/api/v1/jobs/{job}")).json()
    leases = [a for a in told[::2] if a.status == 200 and a.json()["job"] == job]
    right = state["state"] == "cancelled" or (
        leases and (state.get("cancel_requested") or state.get("cancelling") or True)
    )
    return "" if right and len(leases) <= 1 else f"{state['state']} after {len(leases)} leases"


RACES: tuple[Callable[[Portal, random.Random, int], str], ...] = (
    _same_name, _same_digest, _same_key, _leases, _cancel_and_lease,
)  # fmt: skip


def _version(told: object) -> object:
    return told.get("summary", told).get("version") if isinstance(told, dict) else None
