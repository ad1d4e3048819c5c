"""What lies at a step."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from portal.catalog.answers import StepView
from portal.catalog.runs import get_run
from portal.catalog.shelves import kept_facts
from portal.catalog.steps import get_step, step_view
from portal.database import open_session
from portal.web.deps import (
    Config,
    Db,
    Desk,
    PortalAddress,
    RunName,
    Step,
    as_json,
    get_desk,
    parse_step,
    ready_answer,
)
from portal.web.render import render
from portal.web.signposts import add_signposts

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


@pages.get("/runs/{org}/{name}/steps/{step}")
def show_step(request: Request, db: Db, settings: Config, run: RunName, step: Step, address: PortalAddress) -> Response:
    """What lies at one step: a page of its own, or the drawer of the timeline."""
    detail = get_run(db, run)
    context = {"view": get_step(db, settings, run, step), "detail": detail, "tab": "Timeline"}
    answer = render(request, "steps/step.html", context)
    return add_signposts(answer, address, (run, detail.summary.version, step), detail.license.get("weights"))


def _look_up(desk: Desk, run: str, step: int) -> StepView:
    with open_session(desk.engine) as session:
        return get_step(session, desk.settings, run, step)
