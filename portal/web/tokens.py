"""The rows one step read."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from portal.catalog.answers import TokenBatch
from portal.catalog.batches import read_batch, read_rows
from portal.web.batch_files import MEDIA_TYPES, write_batch
from portal.web.deps import Config, Db, RunName, Step, as_json, ready_answer

api = APIRouter(prefix="/api/v1", tags=["data"])


@api.get("/runs/{org}/{name}/steps/{step}/tokens", response_model=TokenBatch, summary="The rows a step read")
def read_tokens(  # noqa: PLR0913 - FastAPI reads the query from the signature
    request: Request,
    db: Db,
    settings: Config,
    run: RunName,
    step: Step,
    first: Annotated[int, Query(description="First row of the batch, from 0.")] = 0,
    count: Annotated[int, Query(description="Rows, up to 1000.")] = 20,
    text: Annotated[bool, Query(description="Whether to decode pieces of text.")] = True,
    format: Annotated[
        Literal["npy", "parquet", "jsonl"] | None, Query(description="The whole batch as a file instead.")
    ] = None,
) -> Response:
    """Token ids, the pieces of text they stand for, and where each row lies; `order` says how sure that is.

    A row that cannot be read carries a `fault`; the rest of the batch is answered. `pieces` joined are the text.
    """
    if format is None:
        return ready_answer(request, as_json(read_batch(db, settings, run, step, first, count, text)))
    pieces = write_batch(read_rows(db, settings, run, step), format)
    name = f"{run.replace('/', '_')}_step{step}.{format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(pieces, headers=headers, media_type=MEDIA_TYPES[format])
