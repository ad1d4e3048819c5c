"""What the run page needs: which series are drawn, which steps are in view, what lies at the chosen one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import urlencode

from sqlmodel import Session
from starlette.datastructures import QueryParams

from portal.catalog.answers import MetricAtStep, SeriesView, StepView
from portal.catalog.axes import axis_obstacles
from portal.catalog.metrics import list_series
from portal.catalog.overlays import list_alike
from portal.catalog.runs import get_run
from portal.catalog.steps import get_step
from portal.errors import BadRequest, NotFound, PortalError
from portal.metrics.drawn import drawn_rows
from portal.settings import Settings
from portal.web.figures import BUCKETS, MAX_OVER, MAX_PANELS, Drawing, XKind, collect

DRAWN_AT_FIRST = (
    re.compile(r"(^|[/_. -])(train[/_. -]?)?(loss|lm[_ ]loss|cross[_ ]?entropy([_ ]?loss)?)$", re.IGNORECASE),
    re.compile(r"grad(ient)?[/_. -]?norm|total_grad_norm", re.IGNORECASE),
    re.compile(r"(^|[/_. -])(lr|learning[_ -]?rate)([/_. -]|$)", re.IGNORECASE),
)
"""What a reader looks at first; the first series that fits each one is drawn."""
MOST_SERIES = 1000
TABLE_ROWS = 100


@dataclass(frozen=True)
class View:
    """What the address of a run page says; None or empty where it says nothing."""

    series: tuple[str, ...]
    first: int | None
    last: int | None
    step: int | None
    log: bool
    x: str = "step"
    smooth: float = 0.0
    """Weight of the past in the smoothed lines, 0 to 0.999; 0 draws none."""
    over: tuple[str, ...] = ()
    """Runs laid over this one."""
    table: str = ""
    """The series whose drawn numbers are listed."""
    page: int = 1
    buckets: int = BUCKETS


def read_view(query: QueryParams) -> View:
    """The view an address asks for. Raises BadRequest where a number is none."""
    return View(
        _distinct(query, "series"),
        _step(query, "first"),
        _step(query, "last"),
        _step(query, "step"),
        query.get("y") == "log",
        query.get("x", "") or "step",
        _smoothing(query.get("smooth", "")),
        _distinct(query, "over"),
        query.get("table", ""),
        _step(query, "page") or 1,
        _step(query, "buckets") or BUCKETS,
    )


def timeline_page(session: Session, settings: Settings, run: str, view: View) -> dict[str, Any]:
    """The template's context. What the address asks for in vain is explained on the page, beside the timeline."""
    detail = get_run(session, run)
    series = list_series(session, run, MOST_SERIES).items
    known = {s.name for s in series}
    wanted = [name for name in view.series if name in known] or choose_series(series)
    chosen = wanted[:MAX_PANELS]
    at, trouble = _at_step(session, settings, run, view.step)
    axes = axis_obstacles(session, run)
    alike = list_alike(session, run)
    drawing, troubles = _drawing(run, view, chosen, axes, [a.run for a in alike])
    zoom = [(k, v) for k, v in (("first", view.first), ("last", view.last)) if v is not None]
    query = _query(drawing, view.log)
    return {
        "detail": detail,
        "tab": "Timeline",
        "groups": _grouped(series),
        "chosen": chosen,
        "unknown": [name for name in view.series if name not in known],
        "uncounted": len(wanted) - len(chosen),
        "figures": f"/runs/{run}/figure",
        "usual": choose_series(series),
        "most": MAX_PANELS,
        "figure": f"/runs/{run}/figure?{urlencode([*query, *zoom, ('buckets', BUCKETS)])}" if chosen else "",
        "axes": axes,
        "alike": alike,
        "asked": view,
        "drawing": drawing,
        "troubles": troubles,
        "table": _table(session, settings, run, view, drawing) if chosen else None,
        "links": _links(run, view, drawing),
        "step": view.step,
        "view": at,
        "trouble": trouble,
    }


def _drawing(
    run: str, view: View, chosen: list[str], axes: dict[str, str], alike: list[str]
) -> tuple[Drawing, list[str]]:
    """What can be drawn of what is asked for, and what cannot, in words."""
    troubles = []
    x = view.x
    if axes.get(x, "unknown"):
        told = axes.get(x) or "there is no such axis."
        troubles.append(f"The x axis cannot count by {x[:40]!r}: {told} Steps are shown instead.")
        x = "step"
    over = tuple(name for name in view.over if name in alike and name != run)[:MAX_OVER]
    troubles += [
        f"{name[:200]} has no series of the same name to lay over this run." for name in view.over if name not in over
    ]
    first, last = view.first, view.last
    if first is not None and last is not None and first > last:
        first, last = last, first
    buckets = min(max(view.buckets, 1), BUCKETS)
    return Drawing(tuple(chosen), first, last, buckets, cast(XKind, x), over), troubles


def _table(session: Session, settings: Settings, run: str, view: View, drawing: Drawing) -> dict[str, Any] | None:
    """One page of the numbers behind one panel."""
    if not view.table:
        return None
    name = view.table if view.table in drawing.series else drawing.series[0]
    drawn = collect(session, settings, run, replace(drawing, series=(name,)))
    panel = drawn.panels[0]
    total = sum(len(curve.buckets) for curve in panel.curves)
    pages = max(-(-total // TABLE_ROWS), 1)
    page = min(max(view.page, 1), pages)
    start = (page - 1) * TABLE_ROWS
    return {
        "series": name,
        "unit": panel.unit,
        "raw": all(curve.buckets.raw for curve in panel.curves),
        "points": sum(curve.buckets.points for curve in panel.curves),
        "rows": list(drawn_rows(panel, start, start + TABLE_ROWS)),
        "total": total,
        "start": start,
        "page": page,
        "pages": pages,
        "first": drawn.first,
        "last": drawn.last,
        "several": len(panel.curves) > 1,
    }


def _links(run: str, view: View, drawing: Drawing) -> dict[str, str]:
    """Addresses of the same view in other forms: ``csv``, and ``page`` with everything but table and page number."""
    window = [(k, v) for k, v in (("first", drawing.first), ("last", drawing.last)) if v is not None]
    figure = [*_query(drawing, False), *window, ("buckets", drawing.buckets)]
    own: list[tuple[str, Any]] = [("series", name) for name in view.series]
    own += [(k, v) for k, v in (("first", view.first), ("last", view.last), ("step", view.step)) if v is not None]
    own += [("x", view.x)] * (view.x != "step") + [("y", "log")] * view.log
    own += [("smooth", f"{view.smooth:g}")] * (view.smooth > 0) + [("over", name) for name in view.over]
    own += [("buckets", view.buckets)] * (view.buckets != BUCKETS)
    return {"csv": f"/runs/{run}/figure.csv?{urlencode(figure)}", "page": f"/runs/{run}?{urlencode(own)}"}


def choose_series(series: Sequence[SeriesView]) -> list[str]:
    """Names drawn when the address names none: loss, gradient norm, learning rate; else the two longest."""
    chosen = []
    for pattern in DRAWN_AT_FIRST:
        fitting = [s for s in series if pattern.search(s.name) and s.points and s.group != "eval"]
        if fitting:
            chosen.append(max(fitting, key=lambda s: s.points).name)
    if chosen:
        return list(dict.fromkeys(chosen))
    longest = sorted((s for s in series if s.points), key=lambda s: -s.points)[:2]
    return [s.name for s in longest]


def foremost(metrics: Sequence[MetricAtStep]) -> list[MetricAtStep]:
    """The same values, those that are looked at first in front, training before evaluations before machines."""
    groups = {"train": 0, "eval": 1}

    def rank(metric: MetricAtStep) -> tuple[int, int]:
        fits = next((k for k, pattern in enumerate(DRAWN_AT_FIRST) if pattern.search(metric.name)), len(DRAWN_AT_FIRST))
        return (fits if metric.group != "eval" else len(DRAWN_AT_FIRST), groups.get(metric.group, 2))

    return sorted(metrics, key=rank)


def _at_step(
    session: Session, settings: Settings, run: str, step: int | None
) -> tuple[StepView | None, PortalError | None]:
    if step is None:
        return None, None
    try:
        return get_step(session, settings, run, step), None
    except (NotFound, BadRequest) as error:
        return None, error


def _grouped(series: Sequence[SeriesView]) -> dict[str, list[SeriesView]]:
    groups: dict[str, list[SeriesView]] = defaultdict(list)
    for one in series:
        groups[one.group or "series"].append(one)
    return dict(groups)


def _query(drawing: Drawing, log: bool) -> list[tuple[str, Any]]:
    """What names a figure, but for its window and its resolution; what is usual is left out."""
    pairs: list[tuple[str, Any]] = [("series", name) for name in drawing.series]
    pairs += [("x", drawing.x)] * (drawing.x != "step") + [("y", "log")] * log
    return pairs + [("over", name) for name in drawing.over]


def _distinct(query: QueryParams, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in query.getlist(name) if value))


def _smoothing(text: str) -> float:
    if not text:
        return 0.0
    if not re.fullmatch(r"[0-9]{0,3}(\.[0-9]{0,12})?", text) or text == ".":
        raise BadRequest(f"smooth is {text[:60]!r}.", "It is a number from 0 to 0.999.", parameter="smooth")
    return min(float(text), 0.999)


def _step(query: QueryParams, name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,30}", text):
        raise BadRequest(f"{name} is {text[:60]!r}.", "It is a step: a whole number.", parameter=name)
    return int(text)
