"""Which rows a step read: pure arithmetic from the data order, no files.

The rows of an order's chunks, concatenated as listed, are numbered 0..n-1. The kind orders these
numbers: ``entry(position)`` is ``position`` itself (sequential), the published index (index) or a drawn
permutation. Step ``first_step + k`` reads positions ``start + k*rows_per_step`` onward. With ``per_chunk``,
each listed chunk is ordered alone and read for ``steps_per_chunk`` steps, and positions number only the rows
that are read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from portal.errors import BadRequest, DataFault, OrderUnknown
from portal.manifest.expand import OrderEntry
from portal.tokens.chunks import ChunkRows, SpanOfChunk, chunk_spans
from portal.tokens.permutations import permutation

__all__ = [
    "ReadOrder",
    "RowRef",
    "SpanOfChunk",
    "chunk_spans",
    "explain_order",
    "last_step_with_data",
    "locate_rows",
    "rows_total",
]

ReadOrder = Callable[[int, int], npt.NDArray[np.int64]]
"""``(start, count)`` -> entries of the published index file; fewer where the file ends."""


@dataclass(frozen=True)
class RowRef:
    """One row of a batch; ``position`` is its 0-based place in the batch, ``row`` its place in the chunk."""

    position: int
    chunk: str
    row: int


def locate_rows(  # noqa: PLR0913 - the whole question in one call
    order: OrderEntry,
    rows_per_step: int,
    chunk_rows: ChunkRows,
    step: int,
    first: int,
    count: int,
    read_order: ReadOrder | None = None,
) -> list[RowRef]:
    """Rows ``first .. first+count`` of the batch of ``step``.

    Fewer are returned where the batch or the data ends: a half batch at the end of the data is a half batch.
    Raises OrderUnknown with the reason when rows cannot be named, DataFault when an index entry names no row.
    """
    if first < 0 or count < 0:
        raise BadRequest(f"Rows {first} to {first + count} of a batch cannot be asked for.", "Count rows from 0.")
    _refuse_unnamed(order, step)
    if order.per_chunk:
        return _locate_per_chunk(order, rows_per_step, chunk_rows, step, (first, count))
    start = _position(order, rows_per_step, step)
    left = max(min(first + count, rows_per_step) - first, 0)
    entries = _entries(order, chunk_rows, start, rows_per_step, (first, left), read_order)
    return [RowRef(first + k, chunk, row) for k, (chunk, row) in enumerate(_place(order, chunk_rows, entries, step))]


def rows_total(
    order: OrderEntry, rows_per_step: int, chunk_rows: ChunkRows, step: int, entries: int | None = None
) -> int:
    """True size of the batch of ``step``: ``rows_per_step``, or what is left where the data ends.

    ``entries`` is the length of the index file of kind index; without it the batch is taken as full.
    Raises OrderUnknown as `locate_rows` does.
    """
    _refuse_unnamed(order, step)
    if order.per_chunk:
        _, _, local, rows, read = _chunk_at(order, rows_per_step, chunk_rows, step)
        return max(min(rows_per_step, min(rows, read) - local), 0)
    available = entries if order.kind == "index" else _count(order, chunk_rows)
    start = _position(order, rows_per_step, step)
    if available is None:
        return rows_per_step
    if start >= available:
        raise _past_the_end(order, step, start, available)
    return min(rows_per_step, available - start)


def last_step_with_data(
    order: OrderEntry, rows_per_step: int, chunk_rows: ChunkRows, entries: int | None = None
) -> int | None:
    """Last step whose whole batch exists, ``first_step - 1`` where not even one does; None where unknowable.

    Smaller than ``order.last_step`` means that the order points past the data.
    """
    if order.kind == "unknown" or rows_per_step < 1:
        return None
    if order.per_chunk:
        return _last_per_chunk(order, rows_per_step, chunk_rows)
    available = entries if order.kind == "index" else _count(order, chunk_rows)
    if available is None:
        return None
    return order.first_step - 1 + max(available - order.start, 0) // rows_per_step


def explain_order(order: OrderEntry | None) -> str:
    """One sentence for people: what the confidence rests on."""
    if order is None:
        return "No data order is recorded for this step."
    told = f" ({order.assumption})" if order.assumption else ""
    if order.confidence == "unknown" or (order.kind == "unknown" and order.confidence != "chunk"):
        return f"The order in which rows were read was not released{told}."
    if order.confidence == "chunk":
        return f"Known to the chunk only: which chunk was read is recorded, the order of its rows is not{told}."
    what = _described(order)
    if order.confidence == "exact":
        return f"Exact: {what}{told}."
    return f"Reconstructed: {what}; it holds if the stated assumption does{told or ' (no assumption is stated)'}."


def _described(order: OrderEntry) -> str:
    each = "each chunk's rows were" if order.per_chunk else "rows were"
    if order.kind == "index":
        return f"{each} read in the order of the published index file {order.file.path if order.file else ''}".rstrip()
    if order.kind == "permutation":
        seed = f"seed {order.seed}" + (" + chunk number" if order.per_chunk else "")
        draw = f", draw {order.draw}" if order.draw else ""
        return f"{each} shuffled by {order.rng} with {seed}{draw}"
    return f"{each} read one after another as they lie in the files"


def _refuse_unnamed(order: OrderEntry, step: int) -> None:
    if not order.first_step <= step <= order.last_step:
        raise OrderUnknown(
            f"Step {step} is outside this data order, which covers steps {order.first_step}-{order.last_step}.",
            "Ask for a step inside an order.",
        )
    if order.kind == "unknown" or order.confidence in ("chunk", "unknown"):
        raise OrderUnknown(explain_order(order), "Look at the chunk itself; its rows can be read in file order.")
    if not order.chunks:
        raise OrderUnknown(f"The data order of step {step} lists no chunks.", "List the chunks it reads.")


def _position(order: OrderEntry, rows_per_step: int, step: int) -> int:
    return order.start + (step - order.first_step) * rows_per_step


def _count(order: OrderEntry, chunk_rows: ChunkRows) -> int | None:
    counts = [chunk_rows.get(name) for name in order.chunks]
    return None if None in counts else sum(c for c in counts if c is not None)


def _entries(
    order: OrderEntry,
    chunk_rows: ChunkRows,
    start: int,
    rows_per_step: int,
    window: tuple[int, int],
    read_order: ReadOrder | None,
) -> Sequence[int]:
    first, count = window
    step = order.first_step + (start - order.start) // rows_per_step
    if order.kind == "index":
        return _index_entries(order, step, start, window, read_order)
    available = _count(order, chunk_rows)
    if available is not None and start >= available:
        raise _past_the_end(order, step, start, available)
    if order.kind == "permutation":
        if available is None:
            raise _uncounted(order, chunk_rows)
        drawn = permutation(order.rng or "", order.seed or 0, order.draw, available)
        return [int(e) for e in drawn[start + first : start + first + count]]
    stop = start + first + count
    return range(start + first, stop if available is None else max(min(stop, available), start + first))


def _index_entries(
    order: OrderEntry, step: int, start: int, window: tuple[int, int], read_order: ReadOrder | None
) -> list[int]:
    first, count = window
    path = order.file.path if order.file else "the index file"
    if read_order is None:
        raise OrderUnknown(
            f"The order of step {step} is in {path}, which this portal cannot read.",
            "Publish a copy of the index file.",
        )
    if count == 0:
        return []
    found = [int(e) for e in read_order(start + first, count)]
    if not found and not len(read_order(start, 1)):
        raise OrderUnknown(
            f"{path} ends before position {start:,}, where the rows of step {step} begin.",
            "The index file is cut short or belongs to another run; publish the whole file.",
        )
    return found


def _place(order: OrderEntry, chunk_rows: ChunkRows, entries: Sequence[int], step: int) -> list[tuple[str, int]]:
    """Row numbers of the concatenation -> (chunk, row)."""
    counts = [chunk_rows.get(name) for name in order.chunks]
    known = counts.index(None) if None in counts else len(counts)
    starts = [0, *accumulate(c for c in counts[:known] if c is not None)]
    placed = []
    for entry in entries:
        if entry < 0 or (known == len(counts) and entry >= starts[-1]):
            raise DataFault(
                f"The order of step {step} names row {entry:,}, but its {len(counts)} chunks hold {starts[-1]:,} rows.",
                "Order and chunks do not belong together: check the chunk list, row counts and dtype of the index.",
                step=step,
                entry=entry,
            )
        k = bisect_right(starts, entry) - 1
        if k >= known and known < len(counts) - 1:
            raise _uncounted(order, chunk_rows)
        placed.append((order.chunks[k], entry - starts[k]))
    return placed


def _locate_per_chunk(
    order: OrderEntry, rows_per_step: int, chunk_rows: ChunkRows, step: int, window: tuple[int, int]
) -> list[RowRef]:
    k, name, local, rows, read = _chunk_at(order, rows_per_step, chunk_rows, step)
    if order.kind == "index":
        raise OrderUnknown(
            "An index file orders all rows of its interval; `per_chunk` does not go with it.",
            "Drop `per_chunk`, or write one order per chunk.",
        )
    first = window[0]
    begin, end = local + first, min(local + min(first + window[1], rows_per_step), rows, read)
    if order.kind == "sequential":
        return [RowRef(first + i, name, row) for i, row in enumerate(range(begin, end))]
    drawn = permutation(order.rng or "", (order.seed or 0) + k, order.draw, rows)[begin : max(begin, end)]
    return [RowRef(first + i, name, int(row)) for i, row in enumerate(drawn)]


def _chunk_at(
    order: OrderEntry, rows_per_step: int, chunk_rows: ChunkRows, step: int
) -> tuple[int, str, int, int, int]:
    """(number of the listed chunk, its name, position inside it, its rows, how many of them are read)."""
    position = _position(order, rows_per_step, step)
    starts = [0]
    for k, name in enumerate(order.chunks):
        rows = chunk_rows.get(name)
        read = _rows_read(order, rows_per_step, rows)
        if read is None:
            raise _uncounted(order, chunk_rows)
        starts.append(starts[-1] + read)
        if position < starts[-1]:
            if rows is None:
                raise _uncounted(order, chunk_rows)
            if position - starts[k] >= rows:
                raise _past_the_end(order, step, position - starts[k], rows)
            return k, name, position - starts[k], rows, read
    raise _past_the_end(order, step, position, starts[-1])


def _rows_read(order: OrderEntry, rows_per_step: int, rows: int | None) -> int | None:
    if order.steps_per_chunk:
        return order.steps_per_chunk * rows_per_step
    return None if rows is None else rows // rows_per_step * rows_per_step


def _last_per_chunk(order: OrderEntry, rows_per_step: int, chunk_rows: ChunkRows) -> int | None:
    whole = 0
    for name in order.chunks:
        rows = chunk_rows.get(name)
        read = _rows_read(order, rows_per_step, rows)
        if read is None or rows is None:
            return None
        if rows < read:
            whole += rows // rows_per_step * rows_per_step
            break
        whole += read
    return order.first_step - 1 + max(whole - order.start, 0) // rows_per_step


def _past_the_end(order: OrderEntry, step: int, position: int, available: int) -> OrderUnknown:
    return OrderUnknown(
        f"The order of step {step} points past the data: it begins at position {position:,}, "
        f"but there are {available:,} rows.",
        f"Correct steps {order.first_step}-{order.last_step} of the data order, its row counts or rows_per_step.",
        step=step,
        position=position,
        rows=available,
    )


def _uncounted(order: OrderEntry, chunk_rows: ChunkRows) -> OrderUnknown:
    name = next(c for c in order.chunks if chunk_rows.get(c) is None)
    return OrderUnknown(
        f"How many rows chunk {name} holds is not recorded, so rows behind it cannot be numbered.",
        "State `rows` for every chunk of this order.",
        chunk=name,
    )
