"""Runs and checkpoints side by side: the page, its figure and JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from sqlmodel import Session
from starlette.responses import Response

from portal.catalog.answers import Comparison
from portal.catalog.compare import FEWEST, MAX_PANELS, MOST, Subject, compare, find_subject
from portal.catalog.runs import list_runs
from portal.errors import BadRequest, PortalError
from portal.web.comparing import View, XKind, draw_comparison, obstacle_to
from portal.web.deps import Config, Db, json_answer
from portal.web.render import render

api = APIRouter(prefix="/api/v1", tags=["runs"])
pages = APIRouter(include_in_schema=False)

OFFERED = 200
"""Runs whose names the page offers to add."""


@dataclass(frozen=True)
class Asked:
    """What an address compares, and how it is drawn."""

    runs: tuple[str, ...]
    series: tuple[str, ...]
    view: View


async def read_asked(
    run: Annotated[
        tuple[str, ...],
        Query(description=f"`org/name`, `org/name@step` or `org/name@label`; {FEWEST} to {MOST} of them."),
    ] = (),
    series: Annotated[
        tuple[str, ...], Query(description="Series to draw; without it loss, gradient norm and learning rate.")
    ] = (),
    x: XKind = "step",
    y: Annotated[str, Query(pattern="^(linear|log)$")] = "linear",
    low: float | None = None,
    high: float | None = None,
) -> Asked:
    """The comparison an address asks for; a run named twice is compared once."""
    bounds = [bound for bound in (low, high) if bound is not None]
    if not all(map(math.isfinite, bounds)) or (len(bounds) == 2 and bounds[0] >= bounds[1]):
        raise BadRequest("low and high are no window.", "Give two numbers, the smaller one as low.", parameter="low")
    names = tuple(dict.fromkeys(name.strip() for name in run if name.strip()))
    return Asked(names, tuple(dict.fromkeys(s for s in series if s))[:MAX_PANELS], View(x, low, high, y == "log"))


Question = Annotated[Asked, Depends(read_asked)]


@api.get("/compare", response_model=Comparison, summary="Runs or checkpoints side by side")
def read_comparison(
    db: Db,
    run: Annotated[
        list[str], Query(description=f"`org/name`, `org/name@step` or `org/name@label`; {FEWEST} to {MOST} of them.")
    ],
    series: Annotated[list[str] | None, Query(description="Series to draw.", max_length=MAX_PANELS)] = None,
) -> Response:
    """Facts, settings, evaluations, sources of the data read and, between checkpoints, their files.

    A value is `null` where a run has none. Evaluations name a `best` only where it is known which way is better. The
    numbers of the series in `panels` come from each run's `metrics/data`.
    """
    return json_answer(compare(db, [find_subject(db, name) for name in dict.fromkeys(run)], series or ()))


@pages.get("/compare")
def show_comparison(
    request: Request, db: Db, asked: Question, show_all: Annotated[bool, Query(alias="all")] = False
) -> Response:
    """Two to eight of them; with fewer, how to choose; what cannot be found is named, and the rest compared."""
    subjects, faults = _find(db, asked.runs)
    context: dict[str, Any] = {
        "asked": asked,
        "faults": faults,
        "beyond": [s.asked for s in subjects[MOST:]],
        "comparison": None,
        "named": [s.asked for s in subjects[:MOST]],
        "offered": [r.run for r in list_runs(db, OFFERED).items],
        "show_all": show_all,
        "link": _Links(asked, show_all),
        "most": MOST,
    }
    if len(subjects) >= FEWEST:
        context |= _compared(db, subjects[:MOST], asked, show_all)
    return render(request, "compare.html", context)


@pages.get("/compare/figure")
def read_comparison_figure(db: Db, settings: Config, asked: Question) -> Response:
    """The curves as a Plotly figure; `panels[].curves` are in the order of the runs."""
    subjects = [find_subject(db, name) for name in asked.runs]
    panels = compare(db, subjects, asked.series).panels
    return json_answer(draw_comparison(db, settings, subjects, panels, asked.view))


@dataclass(frozen=True)
class _Links:
    """Addresses of the same page with one thing changed."""

    asked: Asked
    all: bool

    def to(self, **changes: Any) -> str:
        """The query with ``changes`` (``without`` takes a run away)."""
        runs = [name for name in self.asked.runs if name != changes.get("without")]
        x, log, show = (
            changes.get(k, now)
            for k, now in (("x", self.asked.view.x), ("log", self.asked.view.log), ("all", self.all))
        )
        pairs = [*(("run", name) for name in runs), *(("series", name) for name in self.asked.series)]
        pairs += [("x", x)] * (x != "step") + [("y", "log")] * bool(log) + [("all", "1")] * bool(show)
        return urlencode(pairs, safe="/@")

    def figure(self) -> str:
        """What is drawn, without the window."""
        view = self.asked.view
        pairs = [*(("run", name) for name in self.asked.runs), *(("series", name) for name in self.asked.series)]
        return urlencode([*pairs, ("x", view.x), *([("y", "log")] if view.log else [])], safe="/@")


def _find(session: Session, names: Sequence[str]) -> tuple[list[Subject], list[tuple[str, PortalError]]]:
    subjects, faults = [], []
    for name in names:
        try:
            subjects.append(find_subject(session, name))
        except PortalError as error:
            faults.append((name, error))
    return subjects, faults


def _compared(session: Session, subjects: Sequence[Subject], asked: Asked, show_all: bool) -> dict[str, Any]:
    comparison = compare(session, subjects, asked.series)
    named = Asked(tuple(s.asked for s in subjects), asked.series, asked.view)
    drawn = [panel for panel in comparison.panels if any(panel.series)]
    changed = [row for row in comparison.config if not row.same]
    obstacles = [(s.asked, obstacle_to(session, s, asked.view.x)) for s in subjects]
    return {
        "comparison": comparison,
        "link": _Links(named, show_all),
        "drawn": drawn,
        "undrawn": [panel.name for panel in comparison.panels if not any(panel.series)],
        "settings": comparison.config if show_all else changed,
        "changed": len(changed),
        "obstacles": [(name, why) for name, why in obstacles if why],
    }
