"""Findings and events of a run: lists that can be narrowed by what the address says."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.responses import RedirectResponse, Response

from portal.catalog.answers import EventView, FindingReviewView, FindingView, Page
from portal.catalog.findings import (
    SEVERITIES,
    STATES,
    FindingFilter,
    count_events,
    group_findings,
    list_events,
    list_findings,
)
from portal.catalog.reviews import MAX_NOTE, get_finding, review_finding
from portal.catalog.runs import get_run
from portal.errors import BadRequest, Conflict, PortalError
from portal.web.access import AllowedCaller
from portal.web.deps import Cursor, Db, Limit, RunName, as_json, get_desk, page_answer, parse_step, ready_answer
from portal.web.forms import Form
from portal.web.permissions import REVIEWER
from portal.web.render import render
from portal.web.visitors import Actor, Visitor

api = APIRouter(prefix="/api/v1", tags=["runs"])
pages = APIRouter(include_in_schema=False)

LIST_ROWS = 200
"""Rows of a table on one page."""
Word = Annotated[str, Query(max_length=100)]
FindingId = Annotated[str, Path(max_length=200, description="`id` of the finding, as it is listed.")]


class ReviewBody(BaseModel):
    """What a reviewer says of a finding."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Annotated[str, StringConstraints(max_length=40)]
    """`explained`, or `open` again."""
    note: Annotated[str, StringConstraints(max_length=MAX_NOTE)]


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


@api.get("/runs/{org}/{name}/findings/{finding}", response_model=FindingView, summary="One finding")
def read_finding(request: Request, db: Db, run: RunName, finding: FindingId) -> Response:
    """With its evidence, and what people said of it: who, when, why."""
    return ready_answer(request, as_json(get_finding(db, run, finding)))


@api.post(
    "/runs/{org}/{name}/findings/{finding}/review",
    status_code=201,
    response_model=FindingReviewView,
    summary="Review a finding",
)
def review(request: Request, run: RunName, finding: FindingId, caller: AllowedCaller, body: ReviewBody) -> Response:
    """Explain an open finding, or open an explained one again; the note stays with it. 409 where it has that state already,
    or was withdrawn by a scan. An explanation holds for the run's next version where the same is found."""
    said = review_finding(get_desk(request).engine, caller, run, finding, body.state, body.note)
    return Response(as_json(said), 201, {"Cache-Control": "no-store"}, "application/json")


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


@pages.get("/runs/{org}/{name}/findings/{finding}")
def show_finding(request: Request, db: Db, run: RunName, finding: FindingId, visitor: Visitor) -> Response:
    """With what people said of it, and for reviewers the form to say more."""
    return _finding_page(request, db, run, finding, visitor)


@pages.post("/runs/{org}/{name}/findings/{finding}/review")
def review_from_form(  # noqa: PLR0913 - what a page needs
    request: Request, db: Db, run: RunName, finding: FindingId, form: Form, actor: Actor, visitor: Visitor
) -> Response:
    """Keep what a reviewer says; what cannot be kept is told beside the form."""
    state, note = form.get("state", ""), form.get("note", "")
    try:
        review_finding(get_desk(request).engine, actor, run, finding, state, note)
    except (BadRequest, Conflict) as error:
        return _finding_page(request, db, run, finding, visitor, error, note)
    return RedirectResponse(f"/runs/{run}/findings/{finding}", 303, {"Cache-Control": "no-store"})


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


def _finding_page(  # noqa: PLR0913 - what a page needs
    request: Request, db: Db, run: str, key: str, visitor: Visitor, trouble: PortalError | None = None, note: str = ""
) -> Response:
    found = get_finding(db, run, key)
    may = visitor is not None and visitor.caller.reaches(REVIEWER) and visitor.caller.covers(run)
    context = {"finding": found, "visitor": visitor, "may": may, "trouble": trouble, "note": note, "most": MAX_NOTE}
    page = {"detail": get_run(db, run), "tab": "Findings", **context}
    answer = render(request, "runs/finding.html", page, trouble.status if trouble else 200)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _kept(wanted: FindingFilter) -> str:
    asked = {"code": wanted.code, "severity": wanted.severity, "state": wanted.state, "step": wanted.step}
    given = {name: value for name, value in asked.items() if value not in ("", None)}
    return urlencode(given) + "&" if given else ""
