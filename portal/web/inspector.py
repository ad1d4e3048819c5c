"""The token inspector: a screenful of the batch's rows, and the tokens of one of them, part by part."""

from __future__ import annotations

import gzip
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlmodel import Session
from starlette.responses import Response

from portal.catalog.answers.inspected import Inspection
from portal.catalog.facts import ReleaseFacts
from portal.catalog.inspected import LINES, Asked, inspect_batch
from portal.catalog.moments import check_span
from portal.catalog.release import load_facts
from portal.catalog.runs import get_run
from portal.catalog.steps import data_at
from portal.database import let_go
from portal.errors import DataFault, FileMissing, IntegrityError, OrderUnknown, PortalError, Unavailable
from portal.settings import Settings
from portal.web.deps import Config, Db, RunName, Step, get_desk
from portal.web.moments import parse_span
from portal.web.render import render, wanted_block
from portal.web.token_spans import PART, draw_tokens, parts_of
from portal.web.waiting import wait_for

pages = APIRouter(include_in_schema=False)

SHOWN = {"text": "Text", "ids": "Text and ids", "onlyids": "Ids"}
UNREADABLE = (OrderUnknown, Unavailable, IntegrityError, DataFault, FileMissing)
"""What keeps a whole batch from being read while everything else about its step is known."""


@pages.get("/runs/{org}/{name}/steps/{step}/tokens")
def show_tokens(  # noqa: PLR0913 - FastAPI reads the query from the signature
    request: Request,
    db: Db,
    settings: Config,
    run: RunName,
    step: Step,
    row: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    t: Annotated[str | None, Query(description="Tokens that are chosen, `5-17`.")] = None,
    part: Annotated[int, Query(alias="from", ge=0, le=2**53)] = 0,
    source: Annotated[str | None, Query(max_length=1000)] = None,
    show: str = "text",
) -> Response:
    """The inspector; for htmx one row of it, or one part of a row."""
    asked = Asked(run, step, row, source or None, wanted_block(request) in ("part", "row"))
    try:
        if _lies_elsewhere(load_facts(db, run), settings, step):
            if wanted_block(request) is None:
                # The page stands at once; it asks for its rows itself.
                context = {"detail": get_run(db, run), "tab": "Timeline", "step": step}
                return render(request, "tokens/elsewhere.html", context)
            let_go(db)
            batch = wait_for(get_desk(request), inspect_batch, settings, asked)
        else:
            batch = inspect_batch(db, settings, asked)
    except UNREADABLE as error:
        if wanted_block(request) not in (None, "inspected"):
            raise
        return _unreadable(request, db, asked, error)
    span = parse_span(t) if t else None
    if span is not None and not batch.chosen.fault:
        check_span(span, len(batch.chosen.token_ids))
    detail = get_run(db, run)
    context = {
        "batch": batch,
        "chosen": batch.chosen,
        "span": span,
        "source": source or "",
        "show": show if show in SHOWN else "text",
        "shown": SHOWN,
        "page_rows": LINES,
        "cited": detail.summary.version,
        **_drawn(batch, span[0] if span and not part else part),
    }
    return _packed(request, render(request, "tokens/tokens.html", {"detail": detail, "tab": "Timeline", **context}))


def _lies_elsewhere(facts: ReleaseFacts, settings: Settings, step: int) -> bool:
    """Whether another server must be asked; what cannot be read at all is told without asking anybody."""
    return 0 < step <= facts.last_step and data_at(facts, settings, step).elsewhere


def _packed(request: Request, page: Response) -> Response:
    """The page, compressed: a screenful of tokens is sixty kilobytes of markup and a fifth of that in gzip."""
    page.headers["Vary"] += ", Accept-Encoding"
    if "gzip" in request.headers.get("accept-encoding", ""):
        page.body = gzip.compress(page.body, 4, mtime=0)
        page.headers["Content-Encoding"], page.headers["Content-Length"] = "gzip", str(len(page.body))
    return page


def _drawn(batch: Inspection, token: int) -> dict[str, Any]:
    """The parts of the row, and the one that holds ``token``, drawn."""
    row = batch.chosen
    parts = parts_of(len(row.token_ids))
    first, end = parts[min(token // PART, len(parts) - 1)]
    return {"parts": parts, "drawn_from": first, "drawn": draw_tokens(row, batch.token_bytes, first, end)}


def _unreadable(request: Request, db: Session, asked: Asked, error: PortalError) -> Response:
    """Why the batch cannot be shown, with what can be done instead."""
    facts = load_facts(db, asked.run)
    chunks = data_at(facts, get_desk(request).settings, asked.step).chunks if 0 < asked.step <= facts.last_step else []
    context = {
        "detail": get_run(db, asked.run),
        "tab": "Timeline",
        "step": asked.step,
        "error": error,
        "chunks": chunks,
    }
    return render(request, "tokens/unreadable.html", context, error.status)
