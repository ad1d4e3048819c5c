"""Checkpoints of a run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from portal.catalog.answers import CheckpointRow, CheckpointView, Page
from portal.catalog.checkpoints import get_checkpoint, list_checkpoints
from portal.catalog.runs import get_run
from portal.web.commands import checkpoint_commands
from portal.web.deps import Config, Cursor, Db, Limit, PortalAddress, RunName, json_answer, page_answer
from portal.web.render import render

api = APIRouter(prefix="/api/v1", tags=["checkpoints"])
pages = APIRouter(include_in_schema=False)

StepOrLabel = Annotated[str, Path(description="Step, or a release label such as `ckpt_171`.")]


@api.get("/runs/{org}/{name}/checkpoints", response_model=Page[CheckpointRow], summary="Checkpoints of a run")
def read_checkpoints(request: Request, db: Db, run: RunName, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """By step; checkpoints that have none (soups) come last."""
    return page_answer(request, list_checkpoints(db, run, limit, cursor))


@api.get("/runs/{org}/{name}/checkpoints/{step}", response_model=CheckpointView, summary="One checkpoint")
def read_checkpoint(db: Db, settings: Config, run: RunName, step: StepOrLabel) -> Response:
    """The state after a step, with its files, neighbours, findings and evaluations."""
    return json_answer(get_checkpoint(db, run, step, settings))


@pages.get("/runs/{org}/{name}/checkpoints")
def show_checkpoints(request: Request, db: Db, run: RunName, cursor: Cursor = None) -> Response:
    """All of them as a table."""
    context = {"detail": get_run(db, run), "tab": "Checkpoints", "checkpoints": list_checkpoints(db, run, 400, cursor)}
    return render(request, "checkpoints/list.html", context)


@pages.get("/runs/{org}/{name}/checkpoints/{step}")
def show_checkpoint(
    request: Request, db: Db, settings: Config, run: RunName, step: StepOrLabel, address: PortalAddress
) -> Response:
    """One of them: files, neighbours, evaluations and how to get it."""
    view = get_checkpoint(db, run, step, settings)
    context = {"checkpoint": view, "commands": checkpoint_commands(view, address)}
    return render(request, "checkpoints/checkpoint.html", {"detail": get_run(db, run), "tab": "Checkpoints", **context})
