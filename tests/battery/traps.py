"""Numbers and texts that break programs, in every parameter and field, asked of both databases side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote, quote_plus

from portal.web.app import create_app
from tests.battery.corpus import JSON_NUMBERS, NUMBERS, TEXTS, every
from tests.battery.figures import Figures, Scale
from tests.battery.portals import DATABASES, Portal, a_portal
from tests.battery.routes import Route, list_routes, role_for
from tests.battery.wire import Answer, Probe, Wire

SLOW_S = 5.0
"""Longer than that is a fault of its own: nothing asked here is large. Others use this machine, too."""

BODIES: dict[str, Any] = {
    "/api/v1/jobs": {"run": "lab/small", "step": 5, "kind": "resume", "steps": 2, "priority": 1, "save_every": 5,
                     "set": {"lr": 0.1}, "data": {"chunk_0": 1.0}, "labels": {"a": "b"}, "resources": {"gpus": 0}},
    "/api/v1/jobs/preview": {"run": "lab/small", "step": 5, "kind": "resume", "steps": 2, "seed": 1, "labels": {"a": "b"}},
    "/api/v1/jobs/{job}/cancel": {"force": False},
    "/api/v1/workers": {"name": "trap", "executor": "process", "gpus": 0, "labels": {"a": "b"}, "version": "1",
                        "trainer": {"python": "3"}, "machine": {"devices": [{"name": "g", "memory": 1}], "memory": 1}},
    "/api/v1/workers/{worker}/lease": {"free_gpus": 0, "free_slots": 0, "wait": 0, "draining": True, "registration": 1},
    "/api/v1/workers/{worker}/drain": {"on": False},
    "/api/v1/jobs/{job}/attempts/{attempt}/heartbeat": {"fence": 1, "phase": "running", "step": 301, "ext_ref": "x",
                                                        "message": "x", "host": "h"},
    "/api/v1/jobs/{job}/attempts/{attempt}/metrics": {"fence": 1, "points": [{"step": 301, "name": "loss", "value": 1.5}]},
    "/api/v1/jobs/{job}/attempts/{attempt}/outputs": {"fence": 1, "step": 301, "kind": "partial", "files": [
        {"path": "w.safetensors", "sha256": "0" * 64, "size": 1, "role": "weights"}]},
    "/api/v1/jobs/{job}/attempts/{attempt}/complete": {"fence": 9, "outcome": "failed", "exit_code": 1, "message": "x"},
    "/api/v1/releases/check": {"manifest": {
        "format": "llm360-portal/release/1", "run": "lab/trap", "title": "t", "description": "d", "cadence": 5,
        "training": {"last_step": 20, "rows_per_step": 4, "row_length": 8}, "links": {"paper": "https://example.org"},
        "model": {"parameters": 5, "vocabulary": 100, "architecture": "A"},
        "checkpoints": [{"step": 5, "labels": ["a"], "location": "hf://lab/x@r", "tokens": 160, "note": "n"}],
        "data": {"chunks": [{"name": "c", "files": [{"path": "hf://datasets/l/x@m/x.jsonl", "size": 1}], "format": "jsonl",
                             "rows": 80, "sources": {"web": 0.5}}]},
        "events": [{"step": 1, "kind": "note", "note": "n"}], "configs": [{"values": {"lr": 0.1}}]}, "files": {}, "after": 0},
}  # fmt: skip
"""Sound bodies: each value in them is replaced by each trap."""
BODIES["/api/v1/releases"] = BODIES["/api/v1/releases/check"]

_MOVING = re.compile(
    rb"[0-9a-f]{64}|<code>[0-9a-f]{12}</code>|name=\"key\" value=\"[^\"]*\""
    rb"|127\.0\.0\.1:\d+|\"\d{4}-\d\d-\d\dT[^\"]*\"|\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(Z| UTC)?|\"seconds\": ?[\d.e-]+"
    rb"|battery-[a-z0-9_]+|\"(lease_until|registration|reads|bytes_read|ms|seconds_ago|created_at_ms)\": ?[\d.]+"
    rb"|[0-9a-f]{12}-[0-9a-f]+|[0-9a-f]{24}|\"\w+_ms\": ?\d+|/tmp/[^\"\\ ]+|\b\d+ (second|minute)s? ago|just now"
)
"""What differs from one portal to the other, or from moment to moment."""
_STREAMS = re.compile(r"/events$|^/metrics$|^/workers$|^/readyz$|/static/|openapi.json$|^/api/docs$")


def run(scale: Scale) -> Figures:
    """Ask both and compare."""
    figures = Figures("numbers and texts in every parameter and field, same answer of SQLite and PostgreSQL")
    with ExitStack() as stack:
        portals = [stack.enter_context(a_portal(database)) for database in DATABASES]
        wires = [Wire(portal.port) for portal in portals]
        pairs = list(zip(_probes(portals[0], scale), _probes(portals[1], scale), strict=True))
        with ThreadPoolExecutor(2) as pool:
            for first, second in pairs:
                asked = [pool.submit(wire.ask, probe) for wire, probe in zip(wires, (first, second), strict=True)]
                answers = [a.result() for a in asked]
                figures.tried += 2
                figures.wrong += [said for answer in answers if (said := judge(first, answer))]
                if not _STREAMS.search(first.path.partition("?")[0]):
                    figures.more["pairs compared"] = int(figures.more.get("pairs compared", 0)) + 1
                    figures.wrong += compare(first, answers[0], answers[1])
        for wire in wires:
            wire.close()
        figures.wrong += [f"no answer after all: {p.said()[-300:]}" for p in portals if not p.answers()]
    return figures


def judge(probe: Probe, answer: Answer) -> str:
    """What is wrong with an answer by itself."""
    if answer.status == 0 or (answer.status >= 500 and answer.status not in (503, 507)):
        return f"{probe}: {answer.status or 'no answer'}"
    if answer.seconds > SLOW_S and not probe.path.endswith("/events"):
        return f"{probe}: {answer.seconds:.1f} s"
    if answer.status >= 400 and probe.path.startswith("/api/v1/") and probe.method != "HEAD":
        told = answer.json()
        if answer.media_type != "application/problem+json" or not isinstance(told, dict) or "code" not in told:
            return f"{probe}: {answer.status} as {answer.media_type}"
    return ""


def compare(probe: Probe, one: Answer, other: Answer) -> list[str]:
    """Where the two databases answer otherwise."""
    if one.status != other.status:
        return [f"{probe}: {one.status} of SQLite, {other.status} of PostgreSQL"]
    bodies = [_MOVING.sub(b"~", answer.body) for answer in (one, other)]
    if bodies[0] != bodies[1]:
        at = next((k for k, (a, b) in enumerate(zip(*bodies, strict=False)) if a != b), min(map(len, bodies)))
        around = [body[max(at - 40, 0) : at + 60] for body in bodies]
        return [f"{probe}: {around[0]!r} of SQLite, {around[1]!r} of PostgreSQL"]
    return []


def _probes(portal: Portal, scale: Scale) -> Iterator[Probe]:
    app = create_app(portal.settings)
    app.state.desk.close()
    keep = scale.pick(1, 12, 1000)
    traps = [*NUMBERS, *TEXTS]
    for number, route in enumerate(list_routes(app)):
        if route.template.endswith("/events") and route.template.startswith("/api/v1/jobs"):
            continue  # a stream has no end to wait for
        headers = {"Authorization": f"Bearer {portal.tokens[role_for(route.role)]}"} if route.role else {}
        for at, name in enumerate(route.parameters):
            for trap in every(traps, keep, 5 * number + at):
                written = quote(trap.encode("utf-8", "surrogatepass"), safe="")
                yield Probe(route.method, route.path({name: written}), headers, about=f"{name} of {route.template}")
        for at, name in enumerate(route.queries):
            for trap in every(traps, keep, 3 * number + at):
                written = quote_plus(trap.encode("utf-8", "surrogatepass"))
                about = f"query {name} of {route.template}"
                yield Probe(route.method, route.path(query=f"{name}={written}"), headers, about=about)
        if route.method == "POST" and route.template in BODIES:
            yield from _bodies(route, headers, scale.pick(1, 30, 1000))


def _bodies(route: Route, headers: dict[str, str], keep: int) -> Iterator[Probe]:
    sent = {**headers, "Content-Type": "application/json"}
    traps = [*JSON_NUMBERS, *(json.dumps(text) for text in TEXTS)]
    body = BODIES[route.template]
    for at, place in enumerate(places_of(body)):
        for trap in every(traps, keep, at):
            written = json.dumps(replaced(body, place, "TRAP")).replace('"TRAP"', trap).encode("utf-8", "surrogatepass")
            yield Probe(route.method, route.path(), sent, written, f"{'.'.join(map(str, place))} of {route.template}")


def places_of(body: Any, head: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Keys and numbers to each value inside a body."""
    inside = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in inside:
        yield (*head, key)
        yield from places_of(value, (*head, key))


def replaced(body: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """A copy of a body with another value in one place."""
    if not place:
        return value
    copy = dict(body) if isinstance(body, dict) else list(body)
    copy[place[0]] = replaced(body[place[0]], place[1:], value)
    return copy
