"""What was measured at checkpoints, and one measure over the steps."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from portal.catalog.answers import EvaluationView, Measure, Page
from portal.catalog.evaluations import list_evaluations, list_measures, list_results
from portal.catalog.metrics import list_series
from portal.catalog.runs import get_run
from portal.web.deps import Cursor, Db, Limit, RunName, page_answer
from portal.web.drawings import draw_curve
from portal.web.render import render
from portal.web.timeline import MOST_SERIES

api = APIRouter(prefix="/api/v1", tags=["runs"])
pages = APIRouter(include_in_schema=False)

MEASURE = ("suite", "task", "metric", "shots", "version")
"""What tells one measure from another, in the catalog and in addresses."""


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


@pages.get("/runs/{org}/{name}/evaluations")
def show_evaluations(request: Request, db: Db, run: RunName, q: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Measures, narrowed to those that contain ``q``, and the results of the chosen one."""
    measures = list_measures(db, run)
    asked = {name: value for name, value in request.query_params.items() if name in MEASURE}
    matching = [m for m in measures if q.casefold() in _words(m)]
    named = [m for m in measures if asked and asked.items() <= _address(m).items()]
    chosen = next(iter(named or matching or measures), None)
    results = list_results(db, run, chosen) if chosen else []
    points = [(r.step, r.value) for r in results if r.step is not None and r.value is not None]
    context = {
        "measures": measures,
        "matching": matching,
        "q": q,
        "chosen": chosen,
        "beside": [m for m in measures if chosen and _same(m, chosen)],
        "address_of": lambda measure: urlencode([*_address(measure).items(), *([("q", q)] if q else [])]),
        "results": results,
        "best": _best(chosen, results),
        "drawing": draw_curve(points),
        "logged": [s.name for s in list_series(db, run, MOST_SERIES).items if s.group == "eval"]
        if not measures
        else [],
    }
    return render(request, "evaluations/list.html", {"detail": get_run(db, run), "tab": "Evaluations", **context})


def _address(measure: Measure) -> dict[str, str]:
    """What names a measure in an address; shots and version only where they are known."""
    return {name: str(value) for name in MEASURE if (value := getattr(measure, name)) is not None}


def _words(measure: Measure) -> str:
    shots = "" if measure.shots is None else f"{measure.shots}-shot"
    return f"{measure.task} {measure.metric} {measure.suite} {shots} {measure.version or ''}".casefold()


def _same(one: Measure, other: Measure) -> bool:
    """Whether they differ in nothing but shots and version."""
    return (one.suite, one.task, one.metric) == (other.suite, other.task, other.metric)


def _best(chosen: Measure | None, results: list[EvaluationView]) -> EvaluationView | None:
    """The result with the best value, the earliest of equals; None where better is not defined."""
    best = chosen.best if chosen else None
    return next((r for r in results if best is not None and r.value == best), None)
