"""Which chunk was read in which steps: what an order says even where it cannot name rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portal.manifest.expand import OrderEntry

ChunkRows = Mapping[str, int | None]
"""Rows of each chunk by name; None where nobody knows."""


@dataclass(frozen=True)
class SpanOfChunk:
    """Steps in which a chunk was read, both ends included."""

    chunk: str
    first_step: int
    last_step: int


def chunk_spans(order: OrderEntry, rows_per_step: int | None, chunk_rows: ChunkRows) -> list[SpanOfChunk]:
    """Steps in which each listed chunk was read, as far as chunks can be told apart.

    Where rows of all chunks are mixed (index, permutation, unknown) or row counts are missing, a chunk's span is
    the whole interval it may have been read in. A chunk that is listed but never reached has no span.
    """
    if order.per_chunk and order.steps_per_chunk:
        steps = [order.steps_per_chunk] * len(order.chunks)
        skipped = order.start // rows_per_step if rows_per_step else 0
        return _spans_of_steps(order, steps, skipped)
    if rows_per_step and not order.per_chunk and (order.kind == "sequential" or _known_to_the_chunk(order)):
        return _spans_of_rows(order, rows_per_step, chunk_rows)
    return [SpanOfChunk(name, order.first_step, order.last_step) for name in dict.fromkeys(order.chunks)]


def _known_to_the_chunk(order: OrderEntry) -> bool:
    return order.kind == "unknown" and order.confidence == "chunk"


def _spans_of_steps(order: OrderEntry, steps: list[int], skipped: int) -> list[SpanOfChunk]:
    spans, begin = [], order.first_step - skipped
    for name, length in zip(order.chunks, steps, strict=True):
        first, last = max(begin, order.first_step), min(begin + length - 1, order.last_step)
        if first <= last:
            spans.append(SpanOfChunk(name, first, last))
        begin += length
    return spans


def _spans_of_rows(order: OrderEntry, rows_per_step: int, chunk_rows: ChunkRows) -> list[SpanOfChunk]:
    spans: list[SpanOfChunk] = []
    begin = 0
    for k, name in enumerate(order.chunks):
        rows = chunk_rows.get(name)
        if rows is None:
            # From here on chunks cannot be told apart: each may reach to the end of the interval.
            first = order.first_step + max(begin - order.start, 0) // rows_per_step
            rest = dict.fromkeys(order.chunks[k:])
            return spans + [SpanOfChunk(c, first, order.last_step) for c in rest if first <= order.last_step]
        end = begin + rows
        if rows and end > order.start:
            first = order.first_step + max(begin - order.start, 0) // rows_per_step
            last = min(order.first_step + (end - 1 - order.start) // rows_per_step, order.last_step)
            if first <= last:
                spans.append(SpanOfChunk(name, first, last))
        begin = end
    return spans
