"""Rows of tokens as answers show them: ids, what they say, where documents begin, and where the row lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from portal.catalog.answers import TokenRow
from portal.tokens.decode import Decoder
from portal.tokens.looks import RowMarks
from portal.tokens.orders import RowRef
from portal.tokens.readers import Row, RowFault


def token_row(ref: RowRef, row: Row | RowFault, decoder: Decoder | None, text: bool) -> TokenRow:
    """A row as answers show it: its ids, what they say, and where it lies."""
    return token_rows([(ref, row)], decoder, text)[0]


def token_rows(
    rows: Sequence[tuple[RowRef, Row | RowFault]], decoder: Decoder | None, text: bool = True, written: bool = False
) -> list[TokenRow]:
    """Several rows at once. With ``written`` ids are arrays that orjson writes as the same lists, and pieces are
    `orjson.Fragment`, their JSON."""
    ids = [row.token_ids for _, row in rows if isinstance(row, Row)]
    look = decoder.look(ids) if decoder else None
    marks = look.marks() if look else [RowMarks([], [])] * len(ids)
    pieces: Sequence[Any] = [None] * len(ids)
    if look and text:
        pieces = [orjson.Fragment(row) for row in look.written()] if written else look.pieces()
    told = map(np.ascontiguousarray, ids) if written else (row.tolist() for row in ids)
    said = iter(zip(told, pieces, marks, strict=True))
    return [
        _fault_row(ref, row) if isinstance(row, RowFault) else _sound_row(ref, row, look is not None, *next(said))
        for ref, row in rows
    ]


def _sound_row(ref: RowRef, row: Row, decoded: bool, ids: Any, pieces: Any, marks: RowMarks) -> TokenRow:
    return TokenRow(
        position=ref.position,
        chunk=ref.chunk,
        row=ref.row,
        source=row.source,
        token_ids=ids,
        pieces=pieces,
        document_starts=marks.document_starts,
        starts_mid_document=decoded and len(row.token_ids) > 0 and 0 not in marks.document_starts,
        file=row.file,
        offset=row.offset,
        length=row.length,
        special=marks.specials,
    )


def _fault_row(ref: RowRef, row: RowFault) -> TokenRow:
    told = f"{row.message.rstrip('.')}. {row.remedy}".strip()
    return TokenRow(ref.position, ref.chunk, ref.row, None, [], None, [], False, row.file, row.offset, 0, told)
