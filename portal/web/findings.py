"""Findings and events of a run: lists that can be narrowed by what the address says."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from portal.catalog.answers import EventView, FindingView, Page
from portal.catalog.findings import (
    SEVERITIES,
    STATES,
    FindingFilter,
    count_events,
    group_findings,
    list_events,
    list_findings,
)
from portal.catalog.runs import get_run
from portal.web.deps import Cursor, Db, Limit, RunName, page_answer, parse_step
from portal.web.render import render

api = APIRouter(prefix="/api/v1", tags=["runs"])
pages = APIRouter(include_in_schema=False)

LIST_ROWS = 200
"""Rows of a table on one page."""
Word = Annotated[str, Query(max_length=100)]


def read_filter(code: Word = "", severity: Word = "", state: Word = "", step: Word = "") -> FindingFilter:
    """Findings of one kind, severity (error, warning, info), state (open, explained, fixed) or step."""
    return FindingFilter(code, severity, state, parse_step(step) if step else None)


Wanted = Annotated[FindingFilter, Depends(read_filter)]


@api.get("/runs/{org}/{name}/findings", response_model=Page[FindingView], summary="What the portal found out")
def read_findings(
    request: Request, db: Db, run: RunName, wanted: Wanted, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Contradictions and gaps, each with its evidence: errors first, then by step."""
    return page_answer(request, list_findings(db, run, limit, cursor, wanted))


@api.get("/runs/{org}/{name}/events", response_model=Page[EventView], summary="What happened")
def read_events(
    request: Request, db: Db, run: RunName, limit: Limit = 100, cursor: Cursor = None, kind: Word = ""
) -> Response:
    """NaN losses, spikes, restarts, skipped chunks: declared by the authors or detected in the metrics."""
    return page_answer(request, list_events(db, run, limit, cursor, kind))


@pages.get("/runs/{org}/{name}/findings")
def show_findings(request: Request, db: Db, run: RunName, wanted: Wanted, cursor: Cursor = None) -> Response:
    """By kind with the first few of each; one kind, or one step, as a list."""
    listed = bool(wanted.code) or wanted.step is not None
    context = {
        "wanted": wanted,
        "groups": [] if listed else group_findings(db, run, wanted),
        "findings": list_findings(db, run, LIST_ROWS, cursor, wanted) if listed else None,
        "kinds": {group.code: group.count for group in group_findings(db, run)},
        "severities": SEVERITIES,
        "states": STATES,
        "kept": _kept(wanted),
    }
    return render(request, "runs/findings.html", {"detail": get_run(db, run), "tab": "Findings", **context})


@pages.get("/runs/{org}/{name}/events")
def show_events(request: Request, db: Db, run: RunName, cursor: Cursor = None, kind: Word = "") -> Response:
    """What happened, by step."""
    context = {
        "events": list_events(db, run, LIST_ROWS, cursor, kind),
        "kinds": count_events(db, run),
        "kind": kind,
        "kept": urlencode({"kind": kind}) + "&" if kind else "",
    }
    return render(request, "runs/events.html", {"detail": get_run(db, run), "tab": "Events", **context})


def _kept(wanted: FindingFilter) -> str:
    asked = {"code": wanted.code, "severity": wanted.severity, "state": wanted.state, "step": wanted.step}
    given = {name: value for name, value in asked.items() if value not in ("", None)}
    return urlencode(given) + "&" if given else ""
