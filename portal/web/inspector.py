"""The token inspector: a screenful of the batch's rows, and the tokens of one of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from portal.catalog.batches import read_batch
from portal.catalog.runs import get_run
from portal.errors import NotFound
from portal.web.deps import Config, Db, RunName, Step
from portal.web.render import render, wanted_block
from portal.web.token_spans import draw_tokens

pages = APIRouter(include_in_schema=False)

ROWS = 20
"""Rows in the inspector's list at once."""


@pages.get("/runs/{org}/{name}/steps/{step}/tokens")
def show_tokens(
    request: Request, db: Db, settings: Config, run: RunName, step: Step, row: Annotated[int, Query(ge=0, le=2**53)] = 0
) -> Response:
    """The token inspector: a screenful of the batch's rows, and the tokens of one of them."""
    alone = wanted_block(request) == "row"
    first, count = (row, 1) if alone else (row - row % ROWS, ROWS)
    batch = read_batch(db, settings, run, step, first, count)
    chosen = next((r for r in batch.rows if r.position == row), None)
    if chosen is None:
        raise NotFound(
            f"The batch of step {step} has {batch.rows_total:,} rows, counted from 0: there is no row {row}.",
            "Choose one of the rows it has.",
            nearest=[max(batch.rows_total - 1, 0)],
        )
    detail = get_run(db, run)
    context = {
        "batch": batch,
        "chosen": chosen,
        "drawn": draw_tokens(chosen),
        "page_rows": ROWS,
        "shifted": detail.sequence_length is not None and len(chosen.token_ids) == detail.sequence_length + 1,
    }
    return render(request, "tokens/tokens.html", {"detail": detail, "tab": "Timeline", **context})
