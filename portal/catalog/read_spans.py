"""Which rows of which chunks an interval of steps read, as far as the data order says so without a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portal.catalog.facts import OrderFact, ReleaseFacts
from portal.errors import PortalError
from portal.tokens.orders import locate_rows

MOST_LISTED = 2048
"""Rows of an interval that are listed one by one; beyond that their places in the order name them."""


@dataclass(frozen=True)
class ReadSpan:
    """Rows of one chunk that some steps read."""

    chunk: str
    first_step: int
    last_step: int
    rows: str
    """Ranges, e.g. ``0-19`` or ``3,7-8``, whatever the order they were read in; empty where they are not listed."""
    positions: str
    """Places in the order's own numbering, e.g. ``4096-8191``; empty where that has none."""
    unlisted: str
    """Why the rows are not listed; empty where they are."""
    kind: str
    confidence: str
    assumption: str
    reason: str


def read_spans(facts: ReleaseFacts, first: int, last: int) -> list[ReadSpan]:
    """By chunk and repeat, for steps ``first..last``, both included."""
    found = []
    for span in facts.spans.over(first, last):
        order, begin, end = span.order, max(first, span.first_step), min(last, span.last_step)
        try:
            rows, positions, unlisted = _rows(facts, order, span.chunk, begin, end)
        except PortalError as error:
            rows, positions, unlisted = "", "", error.message
        view = order.view
        found.append(
            ReadSpan(
                span.chunk,
                begin,
                end,
                rows,
                positions,
                unlisted,
                view.kind,
                view.confidence,
                view.assumption,
                view.reason,
            )
        )
    return found


def _rows(facts: ReleaseFacts, order: OrderFact, chunk: str, first: int, last: int) -> tuple[str, str, str]:
    """Rows of ``chunk``, their positions, and why either is not there."""
    per_step = facts.rows_per_step(order.first_step, last)
    if per_step is None:
        return "", "", "How many rows a step reads is not known."
    if order.view.confidence in ("chunk", "unknown"):
        return "", "", "The order of the rows is not known."
    entry, steps = order.entry, last - first + 1
    if order.view.kind == "sequential" and not entry.per_chunk:
        rows = _sequential(facts, order, chunk, first, last, per_step)
        return rows, "", "" if rows else "How many rows the chunks before it have is not known."
    begin = entry.start + (first - order.first_step) * per_step
    positions = f"{begin}-{begin + steps * per_step - 1}"
    if entry.file is not None:
        return "", positions, "The order file tells which rows stand at these positions."
    if order.view.kind != "sequential" and steps * per_step > MOST_LISTED:
        told = f"{entry.rng} with seed {entry.seed}{' + chunk number' if entry.per_chunk else ''}"
        return "", positions, f"They are too many to list; {told} tells which rows stand at these positions."
    found = []
    for step in range(first, last + 1) if order.view.kind != "sequential" else sorted({first, last}):
        refs = locate_rows(entry, per_step, facts.chunk_rows, step, 0, per_step)
        found += [ref.row for ref in refs if ref.chunk == chunk]
    if order.view.kind == "sequential":
        return (f"{min(found)}-{max(found)}" if found else ""), positions, "" if found else "It read none of them."
    return ranges(found), positions, "" if found else "It read none of them."


def ranges(rows: Sequence[int]) -> str:
    """Numbers as ranges in ascending order, each once: ``0-3,7``."""
    told: list[list[int]] = []
    for row in sorted(set(rows)):
        if told and told[-1][1] == row - 1:
            told[-1][1] = row
        else:
            told.append([row, row])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in told)


def _sequential(facts: ReleaseFacts, order: OrderFact, chunk: str, first: int, last: int, per_step: int) -> str:
    """Rows of ``chunk`` among those that these steps read one after another."""
    begin = order.entry.start + (first - order.first_step) * per_step
    end = begin + (last - first + 1) * per_step
    start = 0
    for name in order.entry.chunks:
        rows = facts.chunk_rows.get(name)
        if name == chunk and rows is not None and min(end, start + rows) > max(begin, start):
            return f"{max(begin, start) - start}-{min(end, start + rows) - start - 1}"
        if rows is None:
            return ""
        start += rows
    return ""
