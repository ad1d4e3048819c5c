"""The list of runs, one run's head and its timeline."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from portal.catalog.answers import Page, RunDetail, RunSummary, Timeline
from portal.catalog.jobs.started import count_verdicts
from portal.catalog.release import load_facts
from portal.catalog.runs import get_run, get_timeline, list_runs
from portal.web.deps import Config, Cursor, Db, Limit, PortalAddress, RunName, json_answer, page_answer
from portal.web.lanes import pack_lanes
from portal.web.render import render
from portal.web.signposts import add_signposts
from portal.web.timeline import read_view, timeline_page

api = APIRouter(prefix="/api/v1", tags=["runs"])
pages = APIRouter(include_in_schema=False)

LIST_ROWS = 200
"""Rows of the table on one page."""


@api.get("/runs", response_model=Page[RunSummary], summary="All runs")
def read_runs(request: Request, db: Db, limit: Limit = 100, cursor: Cursor = None, withdrawn: bool = False) -> Response:
    """Published runs by name, each with counts, what of it is open, and what the portal found; with ``withdrawn`` those of
    which no version is left, with who withdrew the last one, when and why."""
    return page_answer(request, list_runs(db, limit, cursor, "", withdrawn))


@api.get("/runs/{org}/{name}", response_model=RunDetail, summary="One run")
def read_run(db: Db, run: RunName, address: PortalAddress) -> Response:
    """Model, licences, batch shape, stages, counts, openness and findings."""
    detail = get_run(db, run)
    place = (run, detail.summary.version, None)
    return add_signposts(json_answer(detail), address, place, detail.license.get("weights"))


@api.get("/runs/{org}/{name}/timeline", response_model=Timeline, summary="Everything by step")
def read_timeline(db: Db, run: RunName) -> Response:
    """Stages, checkpoints, chunks with the steps that read them, data order, events and findings."""
    return json_answer(get_timeline(db, run))


@pages.get("/")
def show_runs(
    request: Request,
    db: Db,
    q: Annotated[str, Query(max_length=200)] = "",
    cursor: Cursor = None,
    withdrawn: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """Every run, or those whose name or title contains ``q``; with ``withdrawn`` those of which no version is left."""
    found = list_runs(db, LIST_ROWS, cursor, q, bool(withdrawn))
    return render(request, "runs/list.html", {"runs": found, "q": q, "withdrawn": bool(withdrawn)})


@pages.get("/runs/{org}/{name}")
def show_run(request: Request, db: Db, settings: Config, run: RunName, address: PortalAddress) -> Response:
    """The timeline, with what lies at the chosen step."""
    page = timeline_page(db, settings, run, read_view(request.query_params))
    head = load_facts(db, run).head
    answer = render(request, "runs/timeline.html", page | {"replays": count_verdicts(db, run)})
    return add_signposts(answer, address, (run, head.version, None), head.license.get("weights"))


@pages.get("/runs/{org}/{name}/lanes")
def read_lanes(db: Db, run: RunName) -> Response:
    """The timeline's lanes, packed small."""
    return json_answer(pack_lanes(get_timeline(db, run)))
