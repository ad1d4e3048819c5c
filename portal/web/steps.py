"""What lies at a step, and the pair there."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from portal.catalog.answers import Pair, StepView
from portal.catalog.pairs import get_pair
from portal.catalog.runs import get_run
from portal.catalog.shelves import kept_facts
from portal.catalog.steps import get_step, step_view
from portal.database import open_session
from portal.web.commands import pair_commands
from portal.web.deps import (
    Config,
    Db,
    Desk,
    PortalAddress,
    RunName,
    Step,
    as_json,
    get_desk,
    json_answer,
    parse_step,
    ready_answer,
)
from portal.web.drawings import draw_pair
from portal.web.render import render

api = APIRouter(prefix="/api/v1", tags=["steps"])
pages = APIRouter(include_in_schema=False)


@api.get("/runs/{org}/{name}/steps/{step}", response_model=StepView, summary="Everything at one step")
async def read_step(request: Request, org: str, name: str, step: str) -> Response:
    """Metrics at exactly this step, the checkpoints around it, the data it read, config, stage, events and findings.

    Step 0 is the initial model.
    """
    desk, run, number = get_desk(request), f"{org}/{name}", parse_step(step)
    facts = kept_facts(desk.engine, run)
    if facts is None:
        view = await run_in_threadpool(_look_up, desk, run, number)
    else:
        # Facts at hand make this a search in sorted lists: shorter than the way to a thread and back.
        view = step_view(facts, desk.settings, number)
    return ready_answer(request, as_json(view))


@api.get("/runs/{org}/{name}/steps/{step}/pair", response_model=Pair, summary="A checkpoint with its data")
def read_pair(
    db: Db,
    settings: Config,
    run: RunName,
    step: Step,
    data: Annotated[
        str, Query(description="`next` (to resume), `previous` (to study) or `batch` (this step).")
    ] = "next",
    steps: Annotated[
        int | None, Query(description="Steps of data; default: up to the neighbouring checkpoint.")
    ] = None,
) -> Response:
    """The checkpoint at or before the step with the rows it reads next, or read since the checkpoint before.

    `batch` gives the rows of the step itself with the checkpoint before it.
    """
    return json_answer(get_pair(db, settings, run, step, data, steps))


@pages.get("/runs/{org}/{name}/steps/{step}")
def show_step(request: Request, db: Db, settings: Config, run: RunName, step: Step) -> Response:
    """What lies at one step: a page of its own, or the drawer of the timeline."""
    context = {"view": get_step(db, settings, run, step), "detail": get_run(db, run), "tab": "Timeline"}
    return render(request, "steps/step.html", context)


@pages.get("/runs/{org}/{name}/steps/{step}/pair")
def show_pair(  # noqa: PLR0913 - FastAPI reads the query from the signature
    request: Request,
    db: Db,
    settings: Config,
    run: RunName,
    step: Step,
    address: PortalAddress,
    data: str = "next",
    steps: int | None = None,
) -> Response:
    """The pair, drawn, with its files and commands."""
    pair = get_pair(db, settings, run, step, data, steps)
    context = {"pair": pair, "drawing": draw_pair(pair), "commands": pair_commands(pair, address)}
    return render(request, "steps/pair.html", {"detail": get_run(db, run), "tab": "Timeline", **context})


def _look_up(desk: Desk, run: str, step: int) -> StepView:
    with open_session(desk.engine) as session:
        return get_step(session, desk.settings, run, step)
