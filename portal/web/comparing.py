"""The figure of a comparison: curves of several runs by step, by tokens read, or by how far each run had come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from sqlmodel import Session

from portal.catalog.answers import ComparedSeries
from portal.catalog.axes import axis_obstacles, find_axis
from portal.catalog.compare import Subject
from portal.catalog.metrics import MetricQuery, query_metrics
from portal.errors import PortalError
from portal.metrics.axes import Axis
from portal.metrics.buckets import Buckets
from portal.metrics.charts import Curve, Panel, Window, draw_panels
from portal.settings import Settings

XKind = Literal["step", "tokens", "fraction"]
BUCKETS = 1000


@dataclass(frozen=True)
class View:
    """What of the curves is shown; ``low`` and ``high`` count what ``x`` counts."""

    x: XKind = "step"
    low: float | None = None
    high: float | None = None
    log: bool = False


def draw_comparison(
    session: Session, settings: Settings, subjects: Sequence[Subject], panels: Sequence[ComparedSeries], view: View
) -> dict[str, Any]:
    """One panel per name, one curve per subject in their order; a subject without the series has an empty one."""
    axes = [_axis(session, s, view.x) if not obstacle_to(session, s, view.x) else None for s in subjects]
    able = [not obstacle_to(session, s, view.x) for s in subjects]
    ends = [_x(axis, s.until) for s, axis, can in zip(subjects, axes, able, strict=True) if can]
    window = Window(view.low or 0.0, max(ends, default=1.0) if view.high is None else view.high, view.x)
    drawn = [
        _columns(session, settings, s, axis, [p.series[k] if able[k] else None for p in panels], window)
        for k, (s, axis) in enumerate(zip(subjects, axes, strict=True))
    ]
    made = [
        Panel(panel.name, _unit(panel), tuple(curves[k] for curves in drawn)) for k, panel in enumerate(panels)
    ]  # fmt: skip
    figure = draw_panels(made, window, view.log)
    if view.x == "fraction":
        figure["layout"]["xaxis"] = figure["layout"]["xaxis"] | {"tickformat": "~%"}
    return figure


def obstacle_to(session: Session, subject: Subject, x: XKind) -> str:
    """Why a subject cannot be drawn by ``x``; empty where it can."""
    if x == "step":
        return ""
    if x == "fraction":
        return "" if subject.facts.last_step > 0 else "nobody recorded how many steps it has."
    return axis_obstacles(session, subject.facts.run)["tokens"]


def _axis(session: Session, subject: Subject, x: XKind) -> Axis | None:
    if x == "fraction":
        return Axis("fraction", np.array([0.0, float(subject.facts.last_step)]), np.array([0.0, 1.0]))
    return find_axis(session, subject.facts.run, x)


def _x(axis: Axis | None, step: int) -> float:
    return float(step) if axis is None else float(axis.to_x([step])[0])


def _columns(
    session: Session,
    settings: Settings,
    subject: Subject,
    axis: Axis | None,
    series: Sequence[str | None],
    window: Window,
) -> list[Curve]:
    """The curve of each panel for one subject, up to the step that is compared."""
    low, high = (window.low, window.high) if axis is None else axis.to_step([window.low, window.high]).tolist()
    first, last = max(math.floor(low), 0), min(math.ceil(high), subject.until)
    names = tuple(dict.fromkeys(name for name in series if name))
    found: dict[str, Buckets] = {}
    if names and first <= last:
        for name in names:
            try:
                (one,) = query_metrics(session, settings, subject.facts.run, _query(name, first, last)).series
            except PortalError:
                # Numbers that are damaged or gone are told where the series itself is opened.
                continue
            found[name] = one.buckets
    return [Curve(subject.asked, found.get(name or "", NOTHING), axis) for name in series]


def _query(name: str, first: int, last: int) -> MetricQuery:
    return MetricQuery((name,), "step", first, last, BUCKETS)


def _unit(panel: ComparedSeries) -> str:
    """The unit all of them share, or every one of them."""
    return " | ".join(dict.fromkeys(unit for unit in panel.units if unit))


def _nothing() -> Buckets:
    """No point at all: keeps the places, and with them the colours, of the other curves."""
    numbers: dict[str, Any] = {f.name: np.empty(0, dtype=np.int64) for f in fields(Buckets)}
    numbers |= {name: np.empty(0) for name in ("min", "max", "mean", "last")}
    return Buckets(**numbers | {"raw": True, "points": 0, "nonfinite_kinds": np.empty(0, dtype=np.uint8)})


NOTHING = _nothing()
