"""Metric series: definitions, buckets for charts, and everything unsampled."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.responses import Response, StreamingResponse

from portal.catalog.answers import MetricAnswer, Page, SeriesView
from portal.catalog.metrics import (
    MAX_BUCKETS,
    X_KINDS,
    MetricQuery,
    WrittenMetrics,
    find_series,
    list_series,
    written_metrics,
)
from portal.catalog.release import load_facts
from portal.catalog.runs import get_run
from portal.catalog.shelves import kept_facts
from portal.database import open_session
from portal.errors import BadRequest
from portal.metrics.export import to_csv, to_parquet
from portal.metrics.response import NamedBuckets, to_json
from portal.web.deps import Config, Cursor, Db, Desk, Limit, RunName, get_desk, page_answer, parse_step
from portal.web.kept import STAMP
from portal.web.render import render
from portal.web.tags import tag_of, unless_held

api = APIRouter(prefix="/api/v1", tags=["metrics"])
pages = APIRouter(include_in_schema=False)

MAX_NAMES = 15_000
"""Characters of `series`: an address takes 16 KiB in all."""
PARAMETERS = [
    {"name": name, "in": "query", "required": name == "series", "description": told, "schema": schema}
    for name, told, schema in (
        ("series", "Names, separated by commas.", {"type": "string", "maxLength": MAX_NAMES}),
        ("x", "What columns ending in `_x` count.", {"enum": list(X_KINDS), "default": "step"}),
        ("first", "First step (a step whatever `x` is).", {"type": "integer"}),
        ("last", "Last step.", {"type": "integer"}),
        (
            "buckets",
            "At most so many buckets per series, and at least half as many: where there are more points, buckets hold"
            " 2 to 8, 16, 32, ... points each and begin at the same places whatever the range.",
            {"type": "integer", "maximum": MAX_BUCKETS, "default": 1000},
        ),
        (
            "encoding",
            "`base64`: columns as {dtype, bdata}, little-endian.",
            {"enum": ["json", "base64"], "default": "json"},
        ),
    )
]

QUICK = 10_000
"""Buckets, over all series, of a query that the event loop may answer itself."""


@api.get("/runs/{org}/{name}/metrics", response_model=Page[SeriesView], summary="What was measured")
def read_metrics(request: Request, db: Db, run: RunName, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """The definition of each series: what, where, reduction, unit, and how many points are not numbers."""
    return page_answer(request, list_series(db, run, limit, cursor))


@api.get(
    "/runs/{org}/{name}/metrics/data",
    response_model=MetricAnswer,
    summary="Numbers in buckets",
    openapi_extra={"parameters": PARAMETERS},
)
async def read_metric_data(request: Request, org: str, name: str) -> Response:
    """Per series parallel columns, one entry per bucket. No spike, NaN or infinity is lost at any zoom.

    Where a series has no more points than `buckets`, the points themselves (`kind: "raw"`). In `base64`, a missing
    number is NaN and a missing step is -1; in `json` both are null.
    """
    query, packed = read_query(request.query_params)
    desk, run = get_desk(request), f"{org}/{name}"
    facts = kept_facts(desk.engine, run, request.scope.get(STAMP))
    if facts is None or len(query.series) * query.buckets > QUICK:
        found = await run_in_threadpool(_look_up, desk, run, query, packed)
    else:
        # Facts at hand and levels stored: shorter than the way to a thread and back.
        found = written_metrics(facts, desk.settings, query, packed)
    etag = tag_of(run, found.release, repr(request.scope["query_string"]))
    return unless_held(request, etag) or Response(
        encode(found, packed), headers={"ETag": etag}, media_type="application/json"
    )


@api.get("/runs/{org}/{name}/metrics/{series:path}.parquet", summary="One series whole, as Parquet")
def read_series_parquet(request: Request, db: Db, settings: Config, run: RunName, series: str) -> Response:
    """Every point, unsampled: columns `step` and `value`."""
    return _export(request, db, settings, (run, series), "parquet")


@api.get("/runs/{org}/{name}/metrics/{series:path}.csv", summary="One series whole, as CSV")
def read_series_csv(request: Request, db: Db, settings: Config, run: RunName, series: str) -> Response:
    """Every point, unsampled: columns `step` and `value`, numbers as they round-trip."""
    return _export(request, db, settings, (run, series), "csv")


@pages.get("/runs/{org}/{name}/metrics")
def show_metrics(request: Request, db: Db, run: RunName, cursor: Cursor = None) -> Response:
    """What each series measures, as a table with downloads."""
    context = {"detail": get_run(db, run), "tab": "Metrics", "series": list_series(db, run, 200, cursor)}
    return render(request, "metrics/list.html", context)


def read_query(given: QueryParams) -> tuple[MetricQuery, bool]:
    """What is asked, and whether in base64. Read by hand: the framework's way takes as long as the answer itself."""
    series = given.get("series", "")
    if len(series) > MAX_NAMES:
        raise BadRequest(f"series has {len(series)} characters.", f"Give at most {MAX_NAMES}.", parameter="series")
    encoding = given.get("encoding", "json")
    if encoding not in ("json", "base64"):
        raise BadRequest(f"encoding is {encoding[:50]!r}.", "Use json or base64.", parameter="encoding")
    names = tuple(dict.fromkeys(n.strip() for n in series.split(",") if n.strip()))
    first, last = (parse_step(given[p], p) if given.get(p) else None for p in ("first", "last"))
    buckets = parse_step(given["buckets"], "buckets") if given.get("buckets") else 1000
    return MetricQuery(names, given.get("x", "step"), first, last, buckets), encoding == "base64"


def _look_up(desk: Desk, run: str, query: MetricQuery, packed: bool) -> WrittenMetrics:
    with open_session(desk.engine) as session:
        return written_metrics(load_facts(session, run), desk.settings, query, packed)


def encode(found: WrittenMetrics, packed: bool) -> bytes:
    """The answer as JSON; columns as base64 when ``packed``, as they must have been written."""
    head = {
        "run": found.run,
        "version": found.version,
        "x": found.query.x,
        "first": found.first,
        "last": found.last,
        "buckets": found.query.buckets,
    }
    series = [
        NamedBuckets(
            s.view.name,
            s.buckets,
            s.x,
            {"group": s.view.group, "unit": s.view.unit, "reduction": s.view.reduction},
        )
        for s in found.series
    ]
    return to_json(series, head, packed)


def _export(
    request: Request, db: Db, settings: Config, asked: tuple[str, str], kind: Literal["parquet", "csv"]
) -> Response:
    run = asked[0]
    view, points = find_series(db, settings, *asked)
    etag = tag_of(run, load_facts(db, run).key, f"{view.name}.{kind}")
    name = quote(f"{run}/{view.name}".replace("/", "_"), safe="")
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}.{kind}",
        "ETag": etag,
        "Cache-Control": "no-cache",
    }
    if held := unless_held(request, etag):
        return held
    if kind == "csv":
        return StreamingResponse(to_csv(points), headers=headers, media_type="text/csv; charset=utf-8")
    return StreamingResponse(to_parquet(points), headers=headers, media_type="application/vnd.apache.parquet")
