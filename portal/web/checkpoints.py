"""Checkpoints of a run, and the tensors of one."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request
from sqlmodel import Session
from starlette.responses import Response

from portal.catalog.answers import CheckpointDetail, CheckpointRow, Page, TensorTable
from portal.catalog.checkpoints import get_checkpoint, list_checkpoints
from portal.catalog.jobs.started import list_replayed
from portal.catalog.release import load_facts
from portal.catalog.runs import get_run
from portal.catalog.tensors import lie_elsewhere, list_tensors
from portal.database import let_go
from portal.web.commands import checkpoint_commands
from portal.web.deps import (
    Config,
    Cursor,
    Db,
    Limit,
    PortalAddress,
    RunName,
    as_json,
    get_desk,
    json_answer,
    page_answer,
    ready_answer,
)
from portal.web.drawings import draw_position
from portal.web.fetch_lists import LISTS
from portal.web.render import render, wanted_block
from portal.web.signposts import add_signposts
from portal.web.waiting import later, wait_for

api = APIRouter(prefix="/api/v1", tags=["checkpoints"])
pages = APIRouter(include_in_schema=False)

TENSORS = 200
"""Rows of the tensor table on one page."""
StepOrLabel = Annotated[str, Path(description="Step, or a release label such as `ckpt_171`.")]
Role = Annotated[str, Query(description="Files of this role: `weights`, `optimizer`, ...", max_length=40)]
Name = Annotated[str, Query(description="Only tensors whose name contains this.", max_length=300)]


@api.get("/runs/{org}/{name}/checkpoints", response_model=Page[CheckpointRow], summary="Checkpoints of a run")
def read_checkpoints(request: Request, db: Db, run: RunName, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """By step; checkpoints that have none (soups) come last."""
    return page_answer(request, list_checkpoints(db, run, limit, cursor))


@api.get(
    "/runs/{org}/{name}/checkpoints/{step:path}/tensors", response_model=TensorTable, summary="Tensors of a checkpoint"
)
def read_tensors(  # noqa: PLR0913 - FastAPI reads the query from the signature
    request: Request,
    db: Db,
    settings: Config,
    run: RunName,
    step: StepOrLabel,
    role: Role = "weights",
    tensor: Name = "",
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Name, shape and dtype of each, from the headers of safetensors files, here or where they lie; no weights are read.

    A file that cannot be read, a pickle and a broken header carry a `fault`; the other files are listed.
    """
    table = list_tensors(db, settings, run, step, role, tensor, limit, cursor)
    answer = ready_answer(request, as_json(table))
    if table.next is not None and answer.status_code == 200:
        query = request.url.include_query_params(cursor=table.next).query
        answer.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return answer


@api.get("/runs/{org}/{name}/checkpoints/{step:path}", response_model=CheckpointDetail, summary="One checkpoint")
def read_checkpoint(db: Db, settings: Config, run: RunName, step: StepOrLabel, address: PortalAddress) -> Response:
    """The state after a step: files, neighbours, findings, evaluations with their change, data seen, derived runs."""
    view, head = get_checkpoint(db, run, step, settings), load_facts(db, run).head
    place = (run, head.version, view.step)
    return add_signposts(json_answer(view), address, place, head.license.get("weights"), view.files)


@pages.get("/runs/{org}/{name}/checkpoints")
def show_checkpoints(request: Request, db: Db, run: RunName, cursor: Cursor = None) -> Response:
    """All of them as a table."""
    context = {"detail": get_run(db, run), "tab": "Checkpoints", "checkpoints": list_checkpoints(db, run, 400, cursor)}
    return render(request, "checkpoints/list.html", context)


@pages.get("/runs/{org}/{name}/checkpoints/{step:path}/tensors")
def show_tensors(  # noqa: PLR0913 - FastAPI reads the query from the signature
    request: Request,
    db: Db,
    settings: Config,
    run: RunName,
    step: StepOrLabel,
    role: Role = "weights",
    tensor: Name = "",
    cursor: Cursor = None,
) -> Response:
    """The tensor table: a page of its own, and a part of the checkpoint's page."""
    if wanted_block(request) is None and lie_elsewhere(db, settings, run, step, role):
        return render(request, "fetched.html", later(get_run(db, run), "Checkpoints", "tensors"))
    let_go(db)
    table = wait_for(get_desk(request), list_tensors, settings, run, step, role, tensor, TENSORS, cursor)
    context = {"table": table, "wanted": tensor, "kept": urlencode({"role": role, "tensor": tensor}) + "&"}
    return render(request, "checkpoints/tensors.html", {"detail": get_run(db, run), "tab": "Checkpoints", **context})


@pages.get("/runs/{org}/{name}/checkpoints/{step:path}")
def show_checkpoint(
    request: Request, db: Db, settings: Config, run: RunName, step: StepOrLabel, address: PortalAddress
) -> Response:
    """One of them: files, neighbours, evaluations, what it has read, and how to get it."""
    view, detail = get_checkpoint(db, run, step, settings), get_run(db, run)
    context = {
        "checkpoint": view,
        "position": draw_position(view, detail),
        "lists": LISTS,
        "replayed": list_replayed(db, run, view.step) if view.step is not None else [],
        "commands": checkpoint_commands(
            view, address, detail.summary.last_step or 0, _are_rows_known(db, run, view.step)
        ),
    }
    answer = render(request, "checkpoints/checkpoint.html", {"detail": detail, "tab": "Checkpoints", **context})
    place = (run, detail.summary.version, view.step)
    return add_signposts(answer, address, place, detail.license.get("weights"), view.files)


def _are_rows_known(db: Session, run: str, step: int | None) -> bool:
    """Whether the rows that a step read can be named, and lie here."""
    facts = load_facts(db, run)
    orders = facts.orders.over(step, step) if step else []
    chunks = [span.chunk for span in facts.spans.over(step, step)] if step else []
    named = bool(orders) and all(o.view.confidence in ("exact", "reconstructed") for o in orders)
    return named and bool(chunks) and all(chunk in facts.at_hand for chunk in chunks)
