"""Chunks of training data, and rows of one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from portal.catalog.answers import ChunkRow, ChunkSample, ChunkView, Page
from portal.catalog.data import get_chunk, list_chunks, sample_chunk
from portal.catalog.release import load_facts
from portal.catalog.runs import get_run
from portal.database import let_go
from portal.web.deps import (
    Config,
    Cursor,
    Db,
    Limit,
    RunName,
    as_json,
    get_desk,
    json_answer,
    page_answer,
    parse_step,
    ready_answer,
)
from portal.web.render import render, wanted_block
from portal.web.token_spans import draw_tokens
from portal.web.waiting import later, wait_for

api = APIRouter(prefix="/api/v1", tags=["data"])
pages = APIRouter(include_in_schema=False)

At = Annotated[str, Query(description="Rows, counted from 0 and separated by commas; default: first, middle and last.")]
SHOWN_TOKENS = 300
"""Tokens drawn of a sample row."""


@api.get("/runs/{org}/{name}/chunks", response_model=Page[ChunkRow], summary="Chunks of a run")
def read_chunks(request: Request, db: Db, run: RunName, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """In the order of the manifest, each with the steps that read it."""
    return page_answer(request, list_chunks(db, run, limit, cursor))


@api.get("/runs/{org}/{name}/chunks/{chunk:path}/rows", response_model=ChunkSample, summary="Rows of a chunk")
def read_rows(request: Request, db: Db, settings: Config, run: RunName, chunk: str, at: At = "") -> Response:
    """As they lie in the files, decoded; a row that cannot be read carries a `fault`.

    For the rows of a step ask `steps/{step}/tokens`: file order is not the order of training.
    """
    return ready_answer(request, as_json(sample_chunk(db, settings, run, chunk, _asked(at))))


@api.get("/runs/{org}/{name}/chunks/{chunk:path}", response_model=ChunkView, summary="One chunk")
def read_chunk(db: Db, settings: Config, run: RunName, chunk: str) -> Response:
    """Its files, source mix, the steps that read it, checkpoints among them and what happened meanwhile."""
    return json_answer(get_chunk(db, run, chunk, settings))


@pages.get("/runs/{org}/{name}/chunks")
def show_chunks(request: Request, db: Db, run: RunName, cursor: Cursor = None) -> Response:
    """All of them as a table, with the steps that read each."""
    context = {"detail": get_run(db, run), "tab": "Data", "chunks": list_chunks(db, run, 400, cursor)}
    return render(request, "data/list.html", context)


@pages.get("/runs/{org}/{name}/chunks/{chunk:path}/rows")
def show_rows(request: Request, db: Db, settings: Config, run: RunName, chunk: str, at: At = "") -> Response:
    """Sample rows: a page of their own, and a part of the chunk's page."""
    asked = _asked(at)
    if chunk in load_facts(db, run).at_hand:
        sample = sample_chunk(db, settings, run, chunk, asked)
    elif wanted_block(request) is None and get_chunk(db, run, chunk, settings).readable:
        return render(request, "fetched.html", later(get_run(db, run), "Data", "rows"))
    else:
        let_go(db)
        sample = wait_for(get_desk(request), sample_chunk, settings, run, chunk, asked)
    drawn = [draw_tokens(row, {}, 0, min(len(row.token_ids), SHOWN_TOKENS)) for row in sample.rows]
    context = {"sample": sample, "drawn": drawn, "shown": SHOWN_TOKENS, "at": at}
    return render(request, "data/rows.html", {"detail": get_run(db, run), "tab": "Data", **context})


@pages.get("/runs/{org}/{name}/chunks/{chunk:path}")
def show_chunk(request: Request, db: Db, settings: Config, run: RunName, chunk: str) -> Response:
    """One of them: files, source mix, when it was read, and a place for its rows."""
    context = {"detail": get_run(db, run), "tab": "Data", "view": get_chunk(db, run, chunk, settings)}
    return render(request, "data/chunk.html", context)


def _asked(at: str) -> list[int] | None:
    return [parse_step(row.strip(), "at") for row in at.split(",") if row.strip()] or None
