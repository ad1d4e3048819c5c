"""What the token inspector shows: rows of a batch by their first words, and one row in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlmodel import Session

from portal.catalog.answers import TokenRow
from portal.catalog.answers.inspected import Inspection, RowLine
from portal.catalog.batches import BatchRows, decoder_of, rows_of
from portal.catalog.facts import ReleaseFacts
from portal.catalog.moments import no_row
from portal.catalog.release import load_facts
from portal.catalog.token_rows import token_row
from portal.errors import NotFound
from portal.settings import Settings
from portal.tokens.decode import Decoder
from portal.tokens.orders import RowRef
from portal.tokens.readers import Row, RowFault

FIRST_IDS = 64
"""Ids of a row that are decoded for its line."""
FIRST_CHARACTERS = 120
LINES = 20
"""Rows in the list at once."""


@dataclass(frozen=True)
class Asked:
    """Which row, in the list of which source, and whether the list is wanted at all."""

    run: str
    step: int
    row: int | None = None
    """None for the first one the list has."""
    source: str | None = None
    alone: bool = False


def inspect_batch(session: Session, settings: Settings, asked: Asked) -> Inspection:
    """The chosen row in full with the page of the list it stands on.

    ``source`` narrows the list to its rows (which reads the whole batch). NotFound names the last row there is.
    Raises what `read_rows` raises.
    """
    facts = load_facts(session, asked.run)
    batch, listed, wanted = _listed(session, settings, facts, asked)
    places = {ref.position: k for k, (ref, _) in enumerate(batch.rows)}
    at = listed.index(wanted)
    first = at - at % LINES
    shown = [] if asked.alone else listed[first : first + LINES]
    decoder = decoder_of(session, settings, facts)
    ref, row = batch.rows[places[wanted]]
    chosen = token_row(ref, row, decoder, True)
    lines = [_line(*batch.rows[places[position]], decoder) for position in shown]
    inputs = _inputs(facts, asked.step)
    return Inspection(
        run=asked.run,
        step=asked.step,
        order=batch.order,
        rows_total=batch.rows_total,
        tokenizer=decoder is not None,
        lines=lines,
        matching=len(listed),
        first=first,
        place=at,
        previous=listed[at - 1] if at else None,
        following=listed[at + 1] if at + 1 < len(listed) else None,
        before=listed[first - LINES] if first >= LINES else None,
        after=listed[first + LINES] if first + LINES < len(listed) else None,
        sources=sorted({row.source for _, row in batch.rows if isinstance(row, Row) and row.source}),
        chosen=chosen,
        token_bytes=_bytes(chosen, decoder),
        inputs=inputs,
        stream=_stream(facts, asked.step, wanted, inputs),
    )


def first_words(row: TokenRow) -> str:
    """The beginning of a row as text, or its first ids where there is no tokenizer."""
    if row.pieces is None:
        return " ".join(map(str, row.token_ids[:16]))
    special = set(row.special)
    text = "".join(" " if at in special else piece for at, piece in enumerate(row.pieces))
    return " ".join(text.split())[:FIRST_CHARACTERS]


def _listed(
    session: Session, settings: Settings, facts: ReleaseFacts, asked: Asked
) -> tuple[BatchRows, Sequence[int], int]:
    """Rows that hold what is shown, the positions the list runs over, and the chosen one of them."""
    row = asked.row or 0
    if asked.source is None:
        window = (row, 1) if asked.alone else (row - row % LINES, LINES)
        batch = rows_of(session, settings, facts, asked.step, window)
        if row >= batch.rows_total:
            raise no_row(asked.step, row, batch.rows_total)
        return batch, range(batch.rows_total), row
    batch = rows_of(session, settings, facts, asked.step)
    listed = [ref.position for ref, row in batch.rows if isinstance(row, Row) and row.source == asked.source]
    if row >= batch.rows_total:
        raise no_row(asked.step, row, batch.rows_total)
    return batch, listed, _chosen(listed, asked)


def _chosen(listed: list[int], asked: Asked) -> int:
    if not listed:
        raise NotFound(f"No row of step {asked.step} comes from {str(asked.source)[:200]!r}.", "Choose another source.")
    if asked.row is None or asked.row in listed:
        return listed[0] if asked.row is None else asked.row
    nearest = min(listed, key=lambda position: abs(position - (asked.row or 0)))
    raise NotFound(
        f"Row {asked.row} does not come from {str(asked.source)[:200]!r}.",
        f"The nearest that does is row {nearest}.",
        nearest=[nearest],
        replaces="row",
    )


def _line(ref: RowRef, row: Row | RowFault, decoder: Decoder | None) -> RowLine:
    if isinstance(row, RowFault):
        return RowLine(ref.position, ref.chunk, ref.row, None, "", 0, True)
    starts = decoder.read(row.token_ids, text=False).document_starts if decoder else []
    beginning = token_row(ref, row._replace(token_ids=row.token_ids[:FIRST_IDS]), decoder, True)
    return RowLine(ref.position, ref.chunk, ref.row, row.source, first_words(beginning), len(starts), False)


def _bytes(row: TokenRow, decoder: Decoder | None) -> dict[int, str]:
    if decoder is None:
        return {}
    ids = np.unique(np.asarray(row.token_ids, dtype=np.int64)).tolist()
    return {id_: raw.hex(" ").upper() for id_ in ids if (raw := decoder.bytes_of(id_)) is not None}


def _inputs(facts: ReleaseFacts, step: int) -> int | None:
    stage = facts.stage_at(step)
    return (stage.sequence_length if stage else None) or facts.head.sequence_length


def _stream(facts: ReleaseFacts, step: int, row: int, inputs: int | None) -> int | None:
    """Only where a step's tokens are its rows' inputs, nothing more: else counting them would be a guess."""
    stage, before = facts.stage_at(step), facts.tokens_after(step - 1)
    if stage is None or before is None or inputs is None or stage.rows_per_step is None:
        return None
    return before + row * inputs if stage.tokens_per_step == stage.rows_per_step * inputs else None
