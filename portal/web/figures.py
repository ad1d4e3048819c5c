"""Figures for the pages that draw curves: the numbers of `metrics/data`, ready for plotly."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from portal.catalog.metrics import MetricQuery, query_metrics
from portal.metrics.charts import Curve, Panel, Window, draw_panels
from portal.web.deps import Config, Db, RunName, json_answer

pages = APIRouter(include_in_schema=False)

MAX_PANELS = 24
"""Panels that one page can still be read with."""


@pages.get("/runs/{org}/{name}/figure")
def read_figure(  # noqa: PLR0913 - FastAPI reads the query from the signature
    db: Db,
    settings: Config,
    run: RunName,
    series: Annotated[list[str], Query(max_length=MAX_PANELS)],
    first: int | None = None,
    last: int | None = None,
    buckets: int = 1000,
    y: Literal["linear", "log"] = "linear",
) -> Response:
    """The panels of these series as a Plotly figure; the same numbers as `metrics/data`."""
    found = query_metrics(db, settings, run, MetricQuery(tuple(series), "step", first, last, buckets))
    panels = [Panel(s.view.name, s.view.unit, (Curve(run, s.buckets),), s.view.group == "eval") for s in found.series]
    return json_answer(draw_panels(panels, Window(found.first, found.last), y == "log"))
