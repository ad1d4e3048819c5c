"""Where a run comes from and what came of it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from portal.catalog.answers import Lineage
from portal.catalog.lineage import get_lineage
from portal.catalog.runs import get_run
from portal.web.deps import Db, RunName, json_answer
from portal.web.family import draw_family
from portal.web.render import render

api = APIRouter(prefix="/api/v1", tags=["runs"])
pages = APIRouter(include_in_schema=False)


@api.get("/runs/{org}/{name}/lineage", response_model=Lineage, summary="Ancestors and descendants")
def read_lineage(db: Db, run: RunName) -> Response:
    """The chain of parents, nearest first, and the runs that started from this one."""
    return json_answer(get_lineage(db, run))


@pages.get("/runs/{org}/{name}/lineage")
def show_lineage(request: Request, db: Db, run: RunName) -> Response:
    """Parents and descendants, drawn and as text."""
    detail, lineage = get_run(db, run), get_lineage(db, run)
    context = {"lineage": lineage, "drawing": draw_family(lineage, detail)}
    return render(request, "runs/lineage.html", {"detail": detail, "tab": "Lineage", **context})
