"""Rows of one length from raw numbers: a whole block becomes rows in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from portal.errors import PortalError
from portal.tokens.readers.rows import NOTHING, Ids, Row, RowFault, RowReader, as_ids

EXACT_FLOAT = 2.0**53

Places = tuple[Iterable[str], Iterable[int]]
"""The paths and the offsets of several rows; either may go on for ever."""

_make: Callable[[type[Row], Iterable[Any]], Row] = tuple.__new__
"""A `Row` from its fields at once: the constructor that `NamedTuple` writes takes three times as long."""


def rows_of_block(
    reader: RowReader, rows: Sequence[int], raw: bytes | memoryview, dtype: np.dtype[Any], places: Places
) -> list[Row | RowFault]:
    """``raw`` holds the ids of all ``rows`` end to end; twenty rows cost about as much as one."""
    paths, offsets = places
    numbers = np.frombuffer(raw, dtype)
    if dtype.kind == "f":
        values = numbers.reshape(len(rows), -1)
        return [_from_floats(reader, *row) for row in zip(rows, values, paths, offsets, strict=False)]
    numbers = as_ids(numbers)
    each = numbers.reshape(len(rows), -1)
    length = repeat(len(raw) // len(rows))
    fields = zip(rows, each, repeat(None), paths, offsets, length, repeat(NOTHING), strict=False)
    found = map(_make, repeat(Row), fields)
    if _plausible(reader, numbers, each.shape[1]):
        return list(found)
    return [reader.accept(row._replace(token_ids=as_ids(row.token_ids))) for row in found]


def rows_of_pieces(
    reader: RowReader,
    rows: Sequence[int],
    pieces: Sequence[bytes | memoryview | PortalError],
    dtype: np.dtype[Any],
    places: Places,
) -> list[Row | RowFault]:
    """The same from one piece per row; an error in place of a piece is that row's fault."""
    whole = [piece for piece in pieces if not isinstance(piece, PortalError)]
    if len(whole) == len(pieces):
        return rows_of_block(reader, rows, b"".join(whole), dtype, places)
    return [
        fault_of(row, piece, (path, offset))
        if isinstance(piece, PortalError)
        else rows_of_block(reader, [row], piece, dtype, ([path], [offset]))[0]
        for row, piece, path, offset in zip(rows, pieces, *places, strict=False)
    ]


def fault_of(row: int, error: PortalError, place: tuple[str, int]) -> RowFault:
    """A row whose bytes cannot be had."""
    return RowFault(row, error.message, error.remedy, *place)


def _plausible(reader: RowReader, ids: Ids, width: int) -> bool:
    """True when no row of the block can be at fault, seen from the block's extremes alone."""
    if reader.row_length is not None and width != reader.row_length:
        return False
    if not len(ids):
        return True
    if ids.dtype == np.uint64:
        # What `as_ids` could not make signed.
        return False
    if ids.dtype.kind == "i" and np.minimum.reduce(ids) < 0:
        return False
    return reader.vocabulary is None or bool(np.maximum.reduce(ids) < reader.vocabulary)


def _from_floats(reader: RowReader, row: int, values: npt.NDArray[Any], path: str, offset: int) -> Row | RowFault:
    """Some Megatron writers store ids as floating point; only whole numbers are ids."""
    whole = np.isfinite(values) & (np.abs(values) <= EXACT_FLOAT)
    whole &= np.floor(np.where(whole, values, 0)) == values
    if not whole.all():
        at = int(np.argmin(whole))
        return RowFault(
            row,
            f"token {at} of the row is {values[at]}, which is no token id",
            "Check the dtype of the chunk and the dialect of its index.",
            path,
            offset,
        )
    ids: Ids = values.astype(np.int64)
    return reader.accept(Row(row, ids, None, path, offset, values.nbytes, NOTHING))
