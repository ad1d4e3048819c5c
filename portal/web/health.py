"""Whether the portal is alive, ready, and how busy: for load balancers and Prometheus."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from portal.catalog.revisions import read_stamp
from portal.errors import Unavailable
from portal.web.deps import Config, Db, json_answer

router = APIRouter(tags=["portal"])


@dataclass(frozen=True)
class Health:
    """The state of the portal and its parts."""

    status: str
    database: str = ""
    storage: str = ""


@router.get("/healthz", response_model=Health, summary="Alive?")
async def read_health() -> Response:
    """Answers as long as the process does."""
    return json_answer(Health("ok"), {"Cache-Control": "no-store"})


@router.get("/readyz", response_model=Health, summary="Ready to serve?")
def read_readiness(db: Db, settings: Config) -> Response:
    """Whether the database answers and the data folder can be used; 503 with the reason otherwise."""
    read_stamp(db)
    if not os.access(settings.data, os.R_OK | os.W_OK | os.X_OK):
        raise Unavailable("The data folder cannot be read or written.", "Check PORTAL_DATA and its permissions.")
    return json_answer(Health("ok", "ok", "ok"), {"Cache-Control": "no-store"})


@router.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)
def read_counters(request: Request, db: Db) -> Response:
    """Prometheus text format: published runs, and how the kept answers do."""
    shelf = request.app.state.answers
    runs = read_stamp(db)[0]
    lines = [
        *_counter("portal_runs", "gauge", "Runs in the catalog.", runs),
        *_counter("portal_kept_answers", "gauge", "Answers kept as bytes.", len(shelf)),
        *_counter("portal_kept_answer_bytes", "gauge", "Memory they take, about.", shelf.bytes),
        *_counter("portal_kept_answer_hits_total", "counter", "Requests answered from them.", shelf.hits),
        *_counter("portal_kept_answer_misses_total", "counter", "Requests that made one.", shelf.misses),
    ]
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")


def _counter(name: str, kind: str, told: str, value: int) -> list[str]:
    return [f"# HELP {name} {told}", f"# TYPE {name} {kind}", f"{name} {value}"]
