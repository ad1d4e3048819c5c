"""What the run page needs: which series are drawn, which steps are in view, what lies at the chosen one."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sqlmodel import Session
from starlette.datastructures import QueryParams

from portal.catalog.answers import MetricAtStep, SeriesView, StepView
from portal.catalog.metrics import list_series
from portal.catalog.runs import get_run
from portal.catalog.steps import get_step
from portal.errors import BadRequest, NotFound, PortalError
from portal.settings import Settings

DRAWN_AT_FIRST = (
    re.compile(r"(^|[/_. -])(train[/_. -]?)?(loss|lm[_ ]loss|cross[_ ]?entropy([_ ]?loss)?)$", re.IGNORECASE),
    re.compile(r"grad(ient)?[/_. -]?norm|total_grad_norm", re.IGNORECASE),
    re.compile(r"(^|[/_. -])(lr|learning[_ -]?rate)([/_. -]|$)", re.IGNORECASE),
)
"""What a reader looks at first; the first series that fits each one is drawn."""
MOST_SERIES = 1000


@dataclass(frozen=True)
class View:
    """What the address of a run page says; everything is None or empty where it says nothing."""

    series: tuple[str, ...]
    first: int | None
    last: int | None
    step: int | None
    log: bool


def read_view(query: QueryParams) -> View:
    """The view an address asks for. Raises BadRequest where a number is none."""
    series = tuple(dict.fromkeys(name for name in query.getlist("series") if name))
    return View(series, _step(query, "first"), _step(query, "last"), _step(query, "step"), query.get("y") == "log")


def timeline_page(session: Session, settings: Settings, run: str, view: View) -> dict[str, Any]:
    """The template's context. A step that does not exist is explained in the drawer, beside the timeline."""
    detail = get_run(session, run)
    series = list_series(session, run, MOST_SERIES).items
    known = {s.name for s in series}
    chosen = [name for name in view.series if name in known] or choose_series(series)
    at, trouble = _at_step(session, settings, run, view.step)
    return {
        "detail": detail,
        "tab": "Timeline",
        "groups": _grouped(series),
        "chosen": chosen,
        "unknown": [name for name in view.series if name not in known],
        "figure": f"/runs/{run}/figure?{_query(chosen, view.log)}" if chosen else "",
        "zoom": "".join(f"&{k}={v}" for k, v in (("first", view.first), ("last", view.last)) if v is not None),
        "given": list(view.series),
        "log": view.log,
        "other_scale": _page_query(view, not view.log),
        "step": view.step,
        "view": at,
        "trouble": trouble,
    }


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


def _query(series: Sequence[str], log: bool) -> str:
    return urlencode([*(("series", name) for name in series), *([("y", "log")] if log else [])])


def _page_query(view: View, log: bool) -> str:
    """The page's own query with the other y axis; everything else stays."""
    pairs: list[tuple[str, Any]] = [("series", name) for name in view.series]
    pairs += [(k, v) for k, v in (("first", view.first), ("last", view.last), ("step", view.step)) if v is not None]
    return urlencode([*pairs, *([("y", "log")] if log else [])])


def _step(query: QueryParams, name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"-?[0-9]{1,30}", text):
        raise BadRequest(f"{name} is {text[:60]!r}.", "It is a step: a whole number.", parameter=name)
    return int(text)
