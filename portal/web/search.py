"""The search box: one query, typed answers, and the way to the one thing it names."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from portal.catalog.answers import SearchAnswer, SearchHit
from portal.catalog.lookup import only_exact, search
from portal.web.deps import Db, as_json, ready_answer
from portal.web.render import render, wanted_block

api = APIRouter(prefix="/api/v1", tags=["search"])
pages = APIRouter(include_in_schema=False)

TYPED, LISTED = 5, 50
"""Hits of one kind below the box while somebody types, and on the page."""

Text = Annotated[
    str,
    Query(
        description="A run, a step (`12000`, `300B tokens`), a checkpoint's label, a chunk, eight or more digits of a "
        "sha256, a config key, a kind of event, a series, a finding. `org/name 12000` searches inside that run."
    ),
]
InRun = Annotated[str | None, Query(description="Search this run alone: `org/name`.", max_length=200)]


@api.get("/search", response_model=SearchAnswer, summary="Find anything by name, number or hash")
def read_search(request: Request, db: Db, q: Text = "", run: InRun = None) -> Response:
    """Typed hits by kind, exact ones first; `found` counts them up to a bound, and `complete` says whether that was all.

    Among all runs, labels and chunks are found by the beginning of their name; inside a run, by any part of it.
    The text a model read is not searched.
    """
    return ready_answer(request, as_json(search(db, q, run or None)))


@pages.get("/search")
def show_search(request: Request, db: Db, q: Text = "", run: InRun = None, go: bool = False) -> Response:
    """What was found; with ``go`` (the box's own form) straight to the one thing the query names exactly."""
    typing = wanted_block(request) == "hits"
    answer = search(db, q, run or None, TYPED if typing else LISTED)
    exact = only_exact(answer)
    if go and exact is not None and not typing:
        return RedirectResponse(address_of(exact), 303)
    context = {"answer": answer, "q": q, "within": run or None, "typing": typing, "address_of": address_of}
    return render(request, "search.html", context | {"everywhere": urlencode({"q": q})})


def address_of(hit: SearchHit) -> str:
    """The page a hit lies on."""
    base = f"/runs/{hit.run}"
    part = {"checkpoint": "checkpoints", "chunk": "chunks"}.get(hit.owner or hit.kind)
    if part is not None:
        return f"{base}/{part}/{quote(hit.key, safe='')}"
    if hit.kind in ("step", "event") and hit.step is not None:
        return f"{base}?step={hit.step}"
    ends = {"series": f"?{urlencode({'series': hit.name})}", "config": "/configs", "event": "/events"}
    return base + (f"/findings#{quote(hit.key)}" if hit.kind == "finding" else ends.get(hit.kind, ""))
