"""Chunks of training data."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from portal.catalog.answers import ChunkRow, ChunkView, Page
from portal.catalog.data import get_chunk, list_chunks
from portal.catalog.runs import get_run
from portal.web.deps import Config, Cursor, Db, Limit, RunName, json_answer, page_answer
from portal.web.render import render

api = APIRouter(prefix="/api/v1", tags=["data"])
pages = APIRouter(include_in_schema=False)


@api.get("/runs/{org}/{name}/chunks", response_model=Page[ChunkRow], summary="Chunks of a run")
def read_chunks(request: Request, db: Db, run: RunName, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """In the order of the manifest, each with the steps that read it."""
    return page_answer(request, list_chunks(db, run, limit, cursor))


@api.get("/runs/{org}/{name}/chunks/{chunk}", response_model=ChunkView, summary="One chunk")
def read_chunk(db: Db, settings: Config, run: RunName, chunk: str) -> Response:
    """Its files, source mix, the steps that read it and what happened meanwhile."""
    return json_answer(get_chunk(db, run, chunk, settings))


@pages.get("/runs/{org}/{name}/chunks")
def show_chunks(request: Request, db: Db, run: RunName, cursor: Cursor = None) -> Response:
    """All of them as a table, with the steps that read each."""
    context = {"detail": get_run(db, run), "tab": "Data", "chunks": list_chunks(db, run, 400, cursor)}
    return render(request, "data/list.html", context)


@pages.get("/runs/{org}/{name}/chunks/{chunk}")
def show_chunk(request: Request, db: Db, settings: Config, run: RunName, chunk: str) -> Response:
    """One of them: files, source mix, and when it was read."""
    context = {"detail": get_run(db, run), "tab": "Data", "view": get_chunk(db, run, chunk, settings)}
    return render(request, "data/chunk.html", context)
