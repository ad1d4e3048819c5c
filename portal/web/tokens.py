"""The rows one step read."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from portal.catalog.answers import TokenBatch
from portal.catalog.batches import MAX_ROWS, read_batch, read_rows
from portal.catalog.release import load_facts
from portal.database import open_session
from portal.errors import BadRequest
from portal.web.batch_files import MEDIA_TYPES, write_batch
from portal.web.deps import Desk, as_json, get_desk, parse_step, ready_answer
from portal.web.tags import tag_of, unless_held

api = APIRouter(prefix="/api/v1", tags=["data"])

PARAMETERS = [
    {"name": name, "in": "query", "required": False, "description": told, "schema": schema}
    for name, told, schema in (
        ("first", "First row of the batch, from 0.", {"type": "integer", "minimum": 0, "default": 0}),
        ("count", f"Rows, up to {MAX_ROWS}.", {"type": "integer", "minimum": 0, "maximum": MAX_ROWS, "default": 20}),
        ("text", "Whether to decode pieces of text.", {"type": "boolean", "default": True}),
        ("format", "The whole batch as a file instead.", {"enum": list(MEDIA_TYPES)}),
    )
]
FLAGS = dict.fromkeys(("true", "t", "1", "yes", "y", "on"), True) | dict.fromkeys(
    ("false", "f", "0", "no", "n", "off"), False
)


@api.get(
    "/runs/{org}/{name}/steps/{step}/tokens",
    response_model=TokenBatch,
    summary="The rows a step read",
    openapi_extra={"parameters": PARAMETERS},
)
async def read_tokens(request: Request, org: str, name: str, step: str) -> Response:
    """Token ids, the pieces of text they stand for, and where each row lies; `order` says how sure that is.

    A row that cannot be read carries a `fault`; the rest of the batch is answered. `pieces` joined are the text.
    """
    desk, run, number, given = get_desk(request), f"{org}/{name}", parse_step(step), request.query_params
    kind = given.get("format")
    if kind is None:
        first, count = parse_step(given.get("first", "0"), "first"), parse_step(given.get("count", "20"), "count")
        text = parse_flag(given.get("text", "true"), "text")
        return ready_answer(request, await run_in_threadpool(_read, desk, run, number, (first, count), text))
    if kind not in MEDIA_TYPES:
        raise BadRequest(f"format is {kind[:50]!r}.", f"Use one of {', '.join(MEDIA_TYPES)}.", parameter="format")
    pieces, release = await run_in_threadpool(_read_whole, desk, run, number, kind)
    etag = tag_of(run, release, f"{number}.{kind}")
    headers = {
        "Content-Disposition": f'attachment; filename="{org}_{name}_step{number}.{kind}"',
        "ETag": etag,
        "Cache-Control": "no-cache",
    }
    return unless_held(request, etag) or StreamingResponse(pieces, headers=headers, media_type=MEDIA_TYPES[kind])


def parse_flag(text: str, parameter: str) -> bool:
    """True or false in any of the usual words; BadRequest otherwise."""
    found = FLAGS.get(text.lower())
    if found is None:
        raise BadRequest(f"{parameter} is {text[:50]!r}.", "Use true or false.", parameter=parameter)
    return found


def _read(desk: Desk, run: str, step: int, window: tuple[int, int], text: bool) -> bytes:
    with open_session(desk.engine) as session:
        return as_json(read_batch(session, desk.settings, run, step, *window, text, written=True))


def _read_whole(desk: Desk, run: str, step: int, kind: str) -> tuple[Iterator[bytes], str]:
    """The file in pieces, and which release it is of; rows are read first, as one that cannot be read is told as such."""
    with open_session(desk.engine) as session:
        release = load_facts(session, run).key
        return write_batch(read_rows(session, desk.settings, run, step), kind), release
