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
from portal.catalog.evaluations import list_evaluations
from portal.catalog.findings import list_configs, list_events, list_findings
from portal.catalog.lineage import get_lineage
from portal.catalog.runs import get_run, get_timeline, list_runs
from portal.web.deps import Config, Cursor, Db, Limit, RunName, json_answer, page_answer

api = APIRouter(prefix="/api/v1", tags=["runs"])
pages = APIRouter(include_in_schema=False)


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
