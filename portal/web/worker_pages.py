"""Workers as a page: who is there, what they have, what they do, and how to attach one."""

from __future__ import annotations

import shlex
from collections import Counter
from functools import lru_cache
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from portal.catalog.jobs.listing import as_time
from portal.catalog.jobs.workers import drain, list_workers
from portal.web.deps import Cursor, Db, PortalAddress, get_desk
from portal.web.filters import in_bytes
from portal.web.forms import Form
from portal.web.job_desk import Jobs
from portal.web.job_lists import LOOK_S, stamp_of
from portal.web.permissions import ADMIN
from portal.web.render import render
from portal.web.visitors import Visitor, get_actor
from portal.web.workers import WorkerId

pages = APIRouter(include_in_schema=False)

ROWS = 250
AGAIN_MS = 60_000
"""When workers were last heard of is shown to the minute: for that alone the page is not sent more often."""
GONE = ("silent", "revoked")
STATES = {
    "ready": ("good", "It asks for jobs."),
    "busy": ("info", "It runs as many jobs as it takes at a time."),
    "draining": ("warn", "It finishes what it has and takes nothing new."),
    "unfit": ("bad", "Its interpreter has no torch or no transformers, so it gets no jobs: see --python."),
    "silent": ("", "It was not heard of for longer than a lease: what it ran goes to others."),
    "revoked": ("bad", "Its token was revoked."),
}


@pages.get("/workers")
def show_workers(  # noqa: PLR0913 - what a page needs
    request: Request,
    db: Db,
    jobs: Jobs,
    visitor: Visitor,
    address: PortalAddress,
    alive: str = "",
    seen: str = "",
    cursor: Cursor = None,
) -> Response:
    """Those heard of last first; `seen` names what the reader has already."""
    workers = list_workers(db, jobs.rules, ROWS, cursor, bool(alive))
    # Places that do not change with every beat; those who are gone come last.
    workers.items.sort(key=lambda w: (w.state in GONE, w.name))
    shown = [[w.id, w.state, w.jobs, w.free_gpus, w.registered_ms, w.labels] for w in workers.items]
    stamp = stamp_of([jobs.rules.clock() // AGAIN_MS, shown])
    if stamp == seen:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    context = {
        "workers": workers,
        "states": STATES,
        "as_time": as_time,
        "haves": {worker.id: haves_of(worker.machine) for worker in workers.items},
        "alive": bool(alive),
        "stamp": stamp,
        "every": LOOK_S,
        "admin": visitor is not None and visitor.caller.reaches(ADMIN),
        "visitor": visitor,
        "commands": attach_commands(address),
        "lease_s": jobs.rules.lease_ms / 1000,
    }
    answer = render(request, "jobs/workers.html", context)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@pages.post("/workers/{worker}/drain")
def drain_worker(request: Request, worker: WorkerId, form: Form) -> Response:
    """Let it take nothing new; with `on=` empty, let it take jobs again."""
    actor = get_actor(request)
    drain(get_desk(request).engine, worker, bool(form.get("on")), actor.name)
    return RedirectResponse("/workers", 303)


def haves_of(machine: dict[str, Any]) -> tuple[str, ...]:
    """What a worker's machine has, a line for each kind of GPU, then memory and disk, as it said when it came."""
    return _haves_of(orjson.dumps(machine))


@lru_cache(maxsize=1024)
def _haves_of(written: bytes) -> tuple[str, ...]:
    # A cluster's nodes are all alike, and a worker says the same until it comes anew.
    machine = orjson.loads(written)
    devices = [
        " ".join(part for part in (d.get("name"), in_bytes(d["memory"]) if d.get("memory") else "") if part)
        for d in machine.get("devices") or []
    ]
    lines = [f"{count} × {name}" if count > 1 else name for name, count in Counter(filter(None, devices)).items()]
    rest = (("memory", machine.get("memory")), ("disk", machine.get("disk")))
    return (*lines, *(f"{in_bytes(size)} {what}" for what, size in rest if size is not None))


def attach_commands(address: str) -> list[tuple[str, str]]:
    """What to type to attach a worker: a token where the portal runs, then one command where the compute is."""
    start = f"PORTAL_TOKEN=llm360_… portal worker --url {shlex.quote(address)}"
    return [
        ("1. Where the portal runs, make a token", "portal token create --role worker --name lab-1"),
        ("2. On the machine that computes, with torch and transformers", start),
        (
            "Or on a login node of a Slurm cluster, its folder where the nodes see it",
            f"{start} --executor slurm --option partition=gpu --work /shared/portal-worker",
        ),
        ("Or beside the head of a Ray cluster", f"{start} --executor ray"),
    ]
