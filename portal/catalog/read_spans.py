"""Which rows of which chunks an interval of steps read, as far as the data order says so without a file."""

from __future__ import annotations

from dataclasses import dataclass

from portal.catalog.facts import OrderFact, ReleaseFacts


@dataclass(frozen=True)
class ReadSpan:
    """Rows of one chunk that some steps read."""

    chunk: str
    first_step: int
    last_step: int
    first_row: int | None
    """None where only the order file or the permutation tells which rows."""
    last_row: int | None
    kind: str
    confidence: str
    assumption: str
    reason: str


def read_spans(facts: ReleaseFacts, first: int, last: int) -> list[ReadSpan]:
    """By chunk and repeat, for steps ``first..last``, both included."""
    found = []
    for span in facts.spans.over(first, last):
        order, begin, end = span.order, max(first, span.first_step), min(last, span.last_step)
        rows = _rows(facts, order, span.chunk, begin, end)
        view = order.view
        found.append(
            ReadSpan(span.chunk, begin, end, rows[0], rows[1], view.kind, view.confidence, view.assumption, view.reason)
        )
    return found


def _rows(facts: ReleaseFacts, order: OrderFact, chunk: str, first: int, last: int) -> tuple[int | None, int | None]:
    """First and last row of ``chunk`` among those that these steps read one after another."""
    per_step = facts.rows_per_step(order.first_step, last)
    if per_step is None or order.view.kind != "sequential" or order.entry.per_chunk:
        return None, None
    begin = order.entry.start + (first - order.first_step) * per_step
    end = begin + (last - first + 1) * per_step
    start = 0
    for name in order.entry.chunks:
        rows = facts.chunk_rows.get(name)
        if name == chunk and rows is not None and min(end, start + rows) > max(begin, start):
            return max(begin, start) - start, min(end, start + rows) - start - 1
        if rows is None:
            return None, None
        start += rows
    return None, None
