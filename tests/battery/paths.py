"""Paths that try to leave their folder, through every string parameter of every route and through stored manifests."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

from portal.errors import PortalError
from portal.exchange.publish import publish
from portal.settings import Settings
from portal.web.app import create_app
from tests.battery.corpus import escaping_paths, every
from tests.battery.figures import Figures, Scale
from tests.battery.portals import Portal, a_portal
from tests.battery.routes import HEADERS, Route, list_routes, role_for
from tests.battery.wire import Answer, Probe, Wire, ask_all
from tests.exchange.releases import write_release

CANARY = "canary-5c1f2b7e9d"
_LEAK = re.compile(rb"root:[^:]*:0:0:|" + CANARY.encode())


def run(scale: Scale) -> Figures:
    """Ask, then compare the folders with how they were before."""
    figures = Figures("payloads x parameters, answers without the canary, folders as they were")
    with a_portal() as portal:
        secret = portal.folder / "secret" / "canary.txt"
        sibling = portal.folder / "data-of-others" / "canary.txt"
        for path in (secret, sibling):
            path.parent.mkdir()
            path.write_text(CANARY)
        payloads = escaping_paths(secret, sibling)
        figures.more["payloads"] = len(payloads)
        before = digests_of(portal.folder)
        probes = list(_probes(portal, payloads, scale))
        figures.tried = len(probes)
        figures.wrong += ask_all(Wire(portal.port), probes, judge)
        stored = list(every(payloads, scale.pick(6, 60, len(payloads)), 0))
        figures.tried += len(stored) * len(PLACES)
        figures.wrong += _stored(portal, stored)
        shutil.rmtree(portal.folder / "release")
        figures.more["parameters"] = len({(p.method, p.about) for p in probes}) + len(PLACES)
        figures.wrong += [f"{name} was changed" for name in _touched(before, digests_of(portal.folder))]
        figures.wrong += [] if portal.answers() else ["the portal does not answer any more"]
    return figures


def judge(probe: Probe, answer: Answer) -> str:
    """What is wrong with an answer to a path that leads out."""
    if answer.status == 0:
        return f"{probe}: no answer"
    if answer.status >= 500:
        return f"{probe}: {answer.status}"
    if _LEAK.search(answer.body.replace(b"data-of-others/canary.txt", b"")):
        return f"{probe}: the answer holds what lies outside"
    return ""


def digests_of(folder: Path) -> dict[str, str]:
    """sha256 of every file by its path, but for the database, logs and what serving processes tell each other."""
    found = {}
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "serving"]
        for name in names:
            if not name.startswith("portal.sqlite3") and name != "portal.log":
                path = Path(base) / name
                found[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _touched(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Files that are other than before, and new ones outside the portal's own data."""
    changed = [name for name, digest in before.items() if after.get(name) != digest]
    return changed + [name for name in after if name not in before and not name.startswith("data/")]


def _probes(portal: Portal, payloads: list[str], scale: Scale) -> Iterator[Probe]:
    app = create_app(portal.settings)
    app.state.desk.close()
    keep = scale.pick(2, 60, len(payloads))
    for number, route in enumerate(list_routes(app)):
        headers = {}
        if route.role:
            headers["Authorization"] = f"Bearer {portal.tokens[role_for(route.role)]}"
        for at, name in enumerate(route.parameters):
            for payload in every(payloads, keep, 7 * number + at):
                about = f"{name} of {route.template}"
                yield Probe(route.method, route.path({name: _plain(payload)}), headers, about=about)
                yield Probe(route.method, route.path({name: quote(payload, safe="")}), headers, about=about)
        for at, name in enumerate(route.queries):
            for payload in every(payloads, keep, 11 * number + at):
                about = f"query {name} of {route.template}"
                yield Probe(route.method, route.path(query=f"{name}={quote_plus(payload)}"), headers, about=about)
        yield from _bodies(route, payloads, keep, headers)
    for at, name in enumerate(HEADERS):
        for payload in every(payloads, keep, 13 * at):
            for path in ("/runs/lab/small", "/files/" + "0" * 64 + "/x", "/api/v1/runs/lab/small/steps/5/tokens"):
                yield Probe("GET", path, {name: payload}, about=f"header {name}")


def _bodies(route: Route, payloads: list[str], keep: int, headers: dict[str, str]) -> Iterator[Probe]:
    """Text in the bodies of what writes."""
    for key, body in (BODIES.get(route.template, {}) if route.method == "POST" else {}).items():
        for payload in every(payloads, keep, len(key)):
            written = json.dumps(body).replace('"PAYLOAD"', json.dumps(payload)).encode()
            sent = {**headers, "Content-Type": "application/json"}
            yield Probe(route.method, route.path(), sent, written, f"{key} in the body of {route.template}")


_MANIFEST = {"format": "llm360-portal/release/1", "run": "lab/leak", "training": {"last_step": 1}}
BODIES = {
    "/api/v1/releases/check": {
        "tokenizer": {"manifest": {**_MANIFEST, "tokenizer": "PAYLOAD"}, "files": {}},
        "metrics": {"manifest": {**_MANIFEST, "metrics": [{"file": "PAYLOAD"}]}, "files": {}},
        "location": {"manifest": {**_MANIFEST, "checkpoints": [{"step": 1, "location": "PAYLOAD"}]}, "files": {}},
        "name": {"manifest": _MANIFEST, "files": {}, "name": "PAYLOAD"},
    },
    "/api/v1/releases": {
        "tokenizer": {"manifest": {**_MANIFEST, "tokenizer": "PAYLOAD"}, "files": {}},
        "run": {"manifest": {**_MANIFEST, "run": "PAYLOAD"}, "files": {}},
        "evaluations": {"manifest": {**_MANIFEST, "evaluations": [{"file": "PAYLOAD"}]}, "files": {}},
    },
    "/api/v1/jobs/preview": {"run": {"run": "PAYLOAD", "step": 5}, "kind": {"run": "lab/small", "step": 5, "kind": "PAYLOAD"}},
    "/api/v1/jobs/{job}/attempts/{attempt}/outputs": {
        "path": {"fence": 1, "step": 301, "kind": "partial",
                 "files": [{"path": "PAYLOAD", "sha256": "0" * 64, "size": 1, "role": "weights"}]},
    },
    "/api/v1/workers": {"name": {"name": "PAYLOAD"}, "host": {"name": "w", "host": "PAYLOAD"}},
}  # fmt: skip
"""Bodies by route, the text in question being PAYLOAD."""

PLACES = {
    "tokenizer": lambda p: {"tokenizer": p},
    "model config": lambda p: {"model": {"config": p}},
    "metrics": lambda p: {"metrics": [{"file": p}]},
    "evaluations": lambda p: {"evaluations": [{"file": p}]},
    "configs": lambda p: {"configs": [{"file": p}]},
    "location": lambda p: {"checkpoints": [{"step": 5, "location": p}]},
    "checkpoint file": lambda p: {"checkpoints": [{"step": 5, "files": [{"path": p}]}]},
    "chunk file": lambda p: {"data": {"chunks": [{"name": "c", "files": [{"path": p}], "format": "jsonl"}]}},
}
"""Where a manifest names files."""


def _stored(portal: Portal, payloads: list[str]) -> list[str]:
    """Second order: a published manifest names the path, and whatever was recorded of it is read again."""
    from portal.database import create_database_engine

    engine = create_database_engine(portal.settings)
    wrong, number = [], 0
    try:
        for place, made in PLACES.items():
            for payload in payloads:
                number += 1
                wrong += _publish(
                    portal.settings, engine, portal.folder / "release", (f"lab/s{number}", place), made(payload)
                )
    finally:
        engine.dispose()
    return wrong


def _publish(
    settings: Settings, engine: object, folder: Path, named: tuple[str, str], changes: dict[str, object]
) -> list[str]:
    run_name, place = named
    try:
        write_release(folder, run_name, **{"evaluations": [], "configs": [], "metrics": [], **changes})
        report = publish(folder, settings, engine)  # type: ignore[arg-type]
    except (PortalError, UnicodeEncodeError):
        return []
    except Exception as error:
        return [f"{place} {changes!r:.200} raised {error!r}"]
    # It was taken as the name of something elsewhere, or of a file inside: nothing outside may have been hashed.
    digest = hashlib.sha256(CANARY.encode()).hexdigest()
    with engine.connect() as connection:  # type: ignore[attr-defined]
        rows = connection.exec_driver_sql(f"select count(*) from file where sha256 = '{digest}'").scalar_one()  # noqa: S608
    return [f"{place} {changes!r:.200} published a file from outside as {report.run}"] if rows else []


def _plain(payload: str) -> str:
    """As it is, but for what no request line can hold."""
    return payload.replace(" ", "%20").replace("\n", "%0A").replace("\r", "%0D").replace("\x00", "%00")
