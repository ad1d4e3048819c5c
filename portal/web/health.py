"""Whether the portal is alive, ready, and how busy: for load balancers and Prometheus."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response

from portal.errors import Unavailable
from portal.web.access import get_caller
from portal.web.deps import get_desk, json_answer
from portal.web.door.exposition import MEDIA_TYPE, write_condition, write_counters, write_surroundings
from portal.web.ready import FAILED, OK, Check
from portal.web.stopping import is_leaving
from portal.web.watched import Watched

router = APIRouter(tags=["portal"])

_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class Health:
    """The state of the portal and its parts."""

    status: str
    checks: list[Check] = field(default_factory=list)


@router.get("/healthz", response_model=Health, summary="Alive?")
async def read_health() -> Response:
    """Answers as long as the process does."""
    return json_answer(Health("ok"), _NO_STORE)


@router.get("/readyz", response_model=Health, summary="Ready to serve?")
async def read_readiness(request: Request) -> Response:
    """Each part with its state and the seconds it took: database and schema, store, data folder, disk.

    503 with the same list while one has `failed`, and from the moment the process is told to stop. A disk that is
    `low` refuses writes with 507, but everything that only reads is answered, so it is no reason to send nobody.
    """
    watched: Watched = request.app.state.watched
    if is_leaving():
        raise Unavailable("This process is stopping.", "Another one answers.", checks=[])
    checks = await run_in_threadpool(watched.readiness.look)
    failed = [check for check in checks if check.state == FAILED]
    if failed:
        told = [{"name": c.name, "state": c.state, "seconds": c.seconds, "told": c.told} for c in checks]
        raise Unavailable(
            " ".join(f"{c.name}: {c.told}" for c in failed), "Its operator finds details in the log.", checks=told
        )
    return json_answer(Health("ok", checks), _NO_STORE)


@router.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)
def read_counters(request: Request) -> Response:
    """Prometheus text format, over all processes of this machine. To addresses of PORTAL_METRICS_FROM (by default this
    machine alone), and to tokens of administrators."""
    watched: Watched = request.app.state.watched
    if not watched.open_to.hold(request.client.host if request.client else ""):
        get_caller(request)
    desk = get_desk(request)
    watched.note()
    ready = {check.name: check.state == OK for check in watched.readiness.look()}
    lines = [
        *write_counters(watched.counters.sum()),
        *write_condition(watched.condition(request.app.state.jobs.rules)),
        *write_surroundings(desk.settings, ready),
    ]
    return Response("\n".join(lines) + "\n", 200, _NO_STORE, MEDIA_TYPE)
