"""The list of runs, one run's head, its timeline, configs, events, findings, evaluations and lineage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from portal.catalog.answers import (
    ConfigView,
    EvaluationView,
    EventView,
    FindingView,
    Lineage,
    Page,
    RunDetail,
    RunSummary,
    Timeline,
)
from portal.catalog.evaluations import list_evaluations, list_measures, list_results
from portal.catalog.findings import list_configs, list_events, list_findings
from portal.catalog.lineage import get_lineage
from portal.catalog.runs import get_run, get_timeline, list_runs
from portal.web.deps import Config, Cursor, Db, Limit, RunName, json_answer, page_answer
from portal.web.drawings import draw_curve
from portal.web.lanes import pack_lanes
from portal.web.render import render
from portal.web.timeline import read_view, timeline_page

api = APIRouter(prefix="/api/v1", tags=["runs"])
pages = APIRouter(include_in_schema=False)

LIST_ROWS = 200
CONFIGS = 20
"""Rows of a table, and configs, on one page."""


@api.get("/runs", response_model=Page[RunSummary], summary="All runs")
def read_runs(request: Request, db: Db, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """Published runs by name, each with counts, what of it is open, and what the portal found."""
    return page_answer(request, list_runs(db, limit, cursor))


@api.get("/runs/{org}/{name}", response_model=RunDetail, summary="One run")
def read_run(db: Db, run: RunName) -> Response:
    """Model, licences, batch shape, stages, counts, openness and findings."""
    return json_answer(get_run(db, run))


@api.get("/runs/{org}/{name}/timeline", response_model=Timeline, summary="Everything by step")
def read_timeline(db: Db, run: RunName) -> Response:
    """Stages, checkpoints, chunks with the steps that read them, data order, events and findings."""
    return json_answer(get_timeline(db, run))


@api.get("/runs/{org}/{name}/lineage", response_model=Lineage, summary="Ancestors and descendants")
def read_lineage(db: Db, run: RunName) -> Response:
    """The chain of parents, nearest first, and the runs that started from this one."""
    return json_answer(get_lineage(db, run))


@api.get("/runs/{org}/{name}/configs", response_model=Page[ConfigView], summary="Hyper-parameters and code")
def read_configs(
    request: Request, db: Db, settings: Config, run: RunName, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """What was in force from which step to which."""
    return page_answer(request, list_configs(db, run, limit, cursor, settings))


@api.get("/runs/{org}/{name}/events", response_model=Page[EventView], summary="What happened")
def read_events(request: Request, db: Db, run: RunName, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """NaN losses, spikes, restarts, skipped chunks: declared by the authors or detected in the metrics."""
    return page_answer(request, list_events(db, run, limit, cursor))


@api.get("/runs/{org}/{name}/findings", response_model=Page[FindingView], summary="What the portal found out")
def read_findings(request: Request, db: Db, run: RunName, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """Contradictions and gaps, each with its evidence."""
    return page_answer(request, list_findings(db, run, limit, cursor))


@api.get("/runs/{org}/{name}/evaluations", response_model=Page[EvaluationView], summary="Evaluation results")
def read_evaluations(
    request: Request,
    db: Db,
    run: RunName,
    limit: Limit = 100,
    cursor: Cursor = None,
    task: Annotated[str | None, Query(description="Only this task.", max_length=300)] = None,
) -> Response:
    """One metric of one task at one step per item, by step."""
    return page_answer(request, list_evaluations(db, run, limit, cursor, task))


@pages.get("/")
def show_runs(
    request: Request, db: Db, q: Annotated[str, Query(max_length=200)] = "", cursor: Cursor = None
) -> Response:
    """Every run, or those whose name or title contains ``q``."""
    return render(request, "runs/list.html", {"runs": list_runs(db, LIST_ROWS, cursor, q), "q": q})


@pages.get("/runs/{org}/{name}")
def show_run(request: Request, db: Db, settings: Config, run: RunName) -> Response:
    """The timeline, with what lies at the chosen step."""
    return render(request, "runs/timeline.html", timeline_page(db, settings, run, read_view(request.query_params)))


@pages.get("/runs/{org}/{name}/lanes")
def read_lanes(db: Db, run: RunName) -> Response:
    """The timeline's lanes, packed small."""
    return json_answer(pack_lanes(get_timeline(db, run)))


@pages.get("/runs/{org}/{name}/findings")
def show_findings(request: Request, db: Db, run: RunName, cursor: Cursor = None) -> Response:
    """What the portal found out itself."""
    context = {"detail": get_run(db, run), "tab": "Findings", "findings": list_findings(db, run, LIST_ROWS, cursor)}
    return render(request, "runs/findings.html", context)


@pages.get("/runs/{org}/{name}/events")
def show_events(request: Request, db: Db, run: RunName, cursor: Cursor = None) -> Response:
    """What happened, by step."""
    context = {"detail": get_run(db, run), "tab": "Events", "events": list_events(db, run, LIST_ROWS, cursor)}
    return render(request, "runs/events.html", context)


@pages.get("/runs/{org}/{name}/configs")
def show_configs(request: Request, db: Db, settings: Config, run: RunName, cursor: Cursor = None) -> Response:
    """Hyper-parameters and code by steps."""
    configs = list_configs(db, run, CONFIGS, cursor, settings)
    return render(request, "runs/configs.html", {"detail": get_run(db, run), "tab": "Config", "configs": configs})


@pages.get("/runs/{org}/{name}/lineage")
def show_lineage(request: Request, db: Db, run: RunName) -> Response:
    """Parents and descendants."""
    context = {"detail": get_run(db, run), "tab": "Lineage", "lineage": get_lineage(db, run)}
    return render(request, "runs/lineage.html", context)


@pages.get("/runs/{org}/{name}/evaluations")
def show_evaluations(request: Request, db: Db, run: RunName) -> Response:
    """What was measured at checkpoints, and one measure over the steps."""
    measures = list_measures(db, run)
    asked = tuple(request.query_params.get(name) for name in ("suite", "task", "metric"))
    chosen = next((m for m in measures if (m.suite, m.task, m.metric) == asked), measures[0] if measures else None)
    results = list_results(db, run, chosen) if chosen else []
    points = [(r.step, r.value) for r in results if r.step is not None and r.value is not None]
    context = {"measures": measures, "chosen": chosen, "results": results, "drawing": draw_curve(points)}
    return render(request, "evaluations/list.html", {"detail": get_run(db, run), "tab": "Evaluations", **context})
