"""Figures for the pages that draw curves: the numbers of `metrics/data`, ready for plotly, as rows and as CSV."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from sqlmodel import Session
from starlette.responses import Response

from portal.catalog.axes import find_axis, last_step_of
from portal.catalog.metrics import MetricQuery, list_series, query_metrics
from portal.errors import BadRequest
from portal.metrics.axes import Axis
from portal.metrics.charts import Curve, Panel, Window, draw_panels, pack_x
from portal.metrics.drawn import drawn_rows, to_csv
from portal.settings import Settings
from portal.web.deps import Config, Db, RunName, json_answer

pages = APIRouter(include_in_schema=False)

MAX_PANELS = 24
"""Panels that one page can still be read with."""
MAX_OVER = 7
"""Runs laid over another."""
BUCKETS = 1000

XKind = Literal["step", "tokens", "chunk", "checkpoint"]


@dataclass(frozen=True)
class Drawing:
    """What is to be drawn. ``first`` and ``last`` are steps of the run itself, whatever ``x`` counts."""

    series: tuple[str, ...]
    first: int | None = None
    last: int | None = None
    buckets: int = BUCKETS
    x: XKind = "step"
    over: tuple[str, ...] = ()
    """Runs laid over it, aligned by ``x``."""


@dataclass(frozen=True)
class Drawn:
    """The curves, and how their x axis lies."""

    panels: list[Panel]
    window: Window
    axes: dict[str, Axis]
    """Of each run; empty where x counts steps."""
    first: int
    last: int
    end: int
    """Last step of the whole view; beyond the run's own where a run laid over it goes on."""
    absent: list[str]
    """Runs laid over it that have none of these series."""


async def read_drawing(
    series: Annotated[list[str], Query(max_length=MAX_PANELS)],
    first: int | None = None,
    last: int | None = None,
    buckets: int = BUCKETS,
    x: XKind = "step",
    over: Annotated[tuple[str, ...], Query(max_length=MAX_OVER)] = (),
) -> Drawing:
    """The drawing an address asks for."""
    return Drawing(tuple(dict.fromkeys(series)), first, last, buckets, x, tuple(dict.fromkeys(over)))


Asked = Annotated[Drawing, Depends(read_drawing)]


@pages.get("/runs/{org}/{name}/figure")
def read_figure(
    db: Db, settings: Config, run: RunName, asked: Asked, y: Literal["linear", "log"] = "linear"
) -> Response:
    """The panels of these series as a Plotly figure; the same numbers as `metrics/data`.

    `axes` holds, where x does not count steps, by run the places between which steps and x are proportional.
    """
    drawn = collect(db, settings, run, asked)
    figure = draw_panels(drawn.panels, drawn.window, y == "log")
    return json_answer(figure | _about(drawn, asked))


@pages.get("/runs/{org}/{name}/figure.csv")
def read_figure_csv(db: Db, settings: Config, run: RunName, asked: Asked) -> Response:
    """What a figure draws, as CSV: a row per bucket of every curve, numbers as they round-trip."""
    drawn = collect(db, settings, run, asked)
    name = quote(f"{run} steps {drawn.first}-{drawn.last}.csv".replace("/", "_"), safe="")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    rows = (row for panel in drawn.panels for row in drawn_rows(panel))
    return Response(to_csv(rows, asked.x), headers=headers, media_type="text/csv; charset=utf-8")


def collect(session: Session, settings: Settings, run: str, asked: Drawing) -> Drawn:
    """Query every run that is drawn. SeriesNotFound when the run itself lacks a series."""
    if run in asked.over:
        raise BadRequest(f"{run} is laid over itself.", "Choose another run.", parameter="over")
    axis = find_axis(session, run, asked.x)
    others = {other: find_axis(session, other, asked.x) for other in asked.over}
    first = 0 if asked.first is None else asked.first
    end = max([last_step_of(session, run), *(_end(session, axis, other, at) for other, at in others.items())])
    last = end if asked.last is None else asked.last
    query = MetricQuery(asked.series, "step", first, last, asked.buckets)
    own = query_metrics(session, settings, run, query).series
    low, high = (first, last) if axis is None else axis.to_x([first, last]).tolist()
    beside: dict[str, dict[str, Curve]] = {
        other: _lay_over(session, settings, other, replace(asked, first=first, last=last), at, (low, high))
        for other, at in others.items()
    }
    panels = [
        Panel(
            s.view.name,
            s.view.unit,
            (
                Curve(run, s.buckets, axis),
                *(curves[s.view.name] for curves in beside.values() if s.view.name in curves),
            ),
            s.view.group == "eval",
        )
        for s in own
    ]
    absent = [other for other, curves in beside.items() if not curves]
    axes = {name: at for name, at in ((run, axis), *others.items()) if at is not None}
    return Drawn(panels, Window(low, high, asked.x), axes, first, last, end, absent)


def _end(session: Session, axis: Axis | None, other: str, at: Axis | None) -> int:
    """The last step of another run, as a step of the run it is laid over."""
    last = last_step_of(session, other)
    if axis is None or at is None:
        return last
    return math.ceil(float(axis.to_step(at.to_x([last]))[0]))


def _lay_over(
    session: Session, settings: Settings, run: str, asked: Drawing, axis: Axis | None, x: tuple[float, float]
) -> dict[str, Curve]:
    """By name, the curves another run has of these series in the same stretch of x."""
    known = {s.name for s in list_series(session, run, 1000).items}
    series = tuple(name for name in asked.series if name in known)
    if not series:
        return {}
    first, last = asked.first or 0, asked.last or 0
    if axis is not None:
        low, high = axis.to_step(x).tolist()
        # A single step lies between two of another run as a rule: the nearest one is meant.
        first, last = (round(low), round(low)) if first == last else (math.ceil(low), math.floor(high))
    if first > last:
        last = first
    found = query_metrics(session, settings, run, MetricQuery(series, "step", first, last, asked.buckets))
    return {s.view.name: Curve(run, s.buckets, axis) for s in found.series}


def _about(drawn: Drawn, asked: Drawing) -> dict[str, Any]:
    axes = {run: {"steps": pack_x(axis.steps), "at": pack_x(axis.at)} for run, axis in drawn.axes.items()}
    return {
        "x": asked.x,
        "axes": axes,
        "first": drawn.first,
        "last": drawn.last,
        "end": drawn.end,
        "absent": drawn.absent,
    }
