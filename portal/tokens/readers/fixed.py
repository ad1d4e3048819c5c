"""Rows of one length from raw numbers: a whole block becomes rows in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from portal.errors import PortalError
from portal.tokens.readers.rows import Ids, Row, RowFault, RowReader, widen

EXACT_FLOAT = 2.0**53

Place = tuple[str, int]
"""(path of the file, offset of the row in it)."""
Places = tuple[Iterable[str], Iterable[int]]
"""The paths and the offsets of several rows; either may go on for ever."""


def rows_of_block(
    reader: RowReader, rows: Sequence[int], raw: bytes | memoryview, dtype: np.dtype[Any], places: Places
) -> list[Row | RowFault]:
    """``raw`` holds the ids of all ``rows`` end to end; twenty rows cost about as much as one."""
    paths, offsets = places
    values = np.frombuffer(raw, dtype).reshape(len(rows), -1)
    if dtype.kind == "f":
        return [_from_floats(reader, *row) for row in zip(rows, values, paths, offsets, strict=False)]
    length = values.shape[1] * dtype.itemsize
    found: list[Row | RowFault] = [
        Row(row, ids, None, path, offset, length, {})
        for row, ids, path, offset in zip(rows, widen(values), paths, offsets, strict=False)
    ]
    if _plausible(reader, values):
        return found
    return [reader.accept(row) for row in found if isinstance(row, Row)]


def rows_of_pieces(
    reader: RowReader,
    rows: Sequence[int],
    pieces: Sequence[bytes | memoryview | PortalError],
    dtype: np.dtype[Any],
    places: Sequence[Place],
) -> list[Row | RowFault]:
    """The same from one piece per row; an error in place of a piece is that row's fault."""
    good = [k for k, piece in enumerate(pieces) if not isinstance(piece, PortalError)]
    block = b"".join(piece for piece in pieces if not isinstance(piece, PortalError))
    own = [places[k][0] for k in good], [places[k][1] for k in good]
    found = iter(rows_of_block(reader, [rows[k] for k in good], block, dtype, own) if good else [])
    return [
        fault_of(rows[k], piece, places[k]) if isinstance(piece, PortalError) else next(found)
        for k, piece in enumerate(pieces)
    ]


def fault_of(row: int, error: PortalError, place: Place) -> RowFault:
    """A row whose bytes cannot be had."""
    return RowFault(row, error.message, error.remedy, *place)


def _plausible(reader: RowReader, values: npt.NDArray[Any]) -> bool:
    """True when no row of the block can be at fault, seen from the block's extremes alone."""
    if reader.row_length is not None and values.shape[1] != reader.row_length:
        return False
    if not values.size:
        return True
    if values.dtype.kind == "i" and values.min() < 0:
        return False
    return reader.vocabulary is None or bool(values.max() < reader.vocabulary)


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
    return reader.accept(Row(row, ids, None, path, offset, values.nbytes, {}))
