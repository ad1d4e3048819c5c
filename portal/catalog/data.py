"""Chunks: list them, and one with its files and what happened while it was read."""

from __future__ import annotations

import difflib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from sqlmodel import Session, col

from portal.catalog.answers import (
    CheckpointRef,
    ChunkRow,
    ChunkSample,
    ChunkView,
    EventView,
    OrderView,
    Page,
    StepRows,
)
from portal.catalog.batches import decoder_of, read_chunk
from portal.catalog.facts import ChunkFact, ReleaseFacts
from portal.catalog.files import Links, load_files
from portal.catalog.paging import slice_page
from portal.catalog.reach import why_unreadable
from portal.catalog.release import load_facts
from portal.catalog.token_rows import token_rows
from portal.errors import BadRequest, ChunkNotFound, PortalError
from portal.models import File
from portal.settings import Settings
from portal.tokens.orders import RowRef, locate_rows

MAX_SAMPLES = 50
"""Rows of one answer."""
MAX_SPANS = 3
SHOWN_ROWS = 8


def list_chunks(session: Session, run: str, limit: int = 100, cursor: str | None = None) -> Page[ChunkRow]:
    """Chunks in the order of the manifest, each with the steps that read it."""
    facts = load_facts(session, run)
    return slice_page([c.row for c in facts.chunks.values()], facts.head.version, limit, cursor)


def get_chunk(session: Session, run: str, chunk: str, settings: Settings | None = None) -> ChunkView:
    """A chunk with its files. ChunkNotFound names close matches."""
    facts = load_facts(session, run)
    found = find_chunk(facts, chunk)
    links = Links.of(settings)
    names = list(facts.chunks)
    unread = why_unreadable(facts, settings, chunk)
    return ChunkView(
        run=facts.run,
        chunk=found.row,
        dtype=found.dtype,
        header=found.header,
        note=found.note,
        files=[links.file_view(f) for f in load_files(session, facts.head.id, col(File.chunk_id) == found.id)],
        order=_orders(facts, chunk),
        events=_events(facts, found),
        previous=names[found.row.position - 1] if found.row.position else None,
        next=names[found.row.position + 1] if found.row.position + 1 < len(names) else None,
        checkpoints=_checkpoints(facts, found),
        step_rows=_step_rows(facts, chunk),
        readable=not unread,
        reason=unread,
        elsewhere=chunk not in facts.at_hand,
        tokenizer=facts.tokenizer.path if facts.tokenizer else None,
    )


def sample_chunk(
    session: Session, settings: Settings, run: str, chunk: str, rows: Sequence[int] | None = None
) -> ChunkSample:
    """Rows of a chunk in file order, decoded where the run has a tokenizer; None: its first, middle and last.

    A row that cannot be read carries its fault. Unavailable when the bytes are not on this machine.
    """
    if rows is not None and (len(rows) > MAX_SAMPLES or any(not 0 <= row <= 2**53 for row in rows)):
        raise BadRequest(
            f"{len(rows)} rows are asked for, or a number that is none.",
            f"Name up to {MAX_SAMPLES} rows, counted from 0.",
            parameter="at",
        )
    facts = load_facts(session, run)
    find_chunk(facts, chunk)

    def choose(total: int) -> list[int]:
        return sorted({0, total // 2, total - 1} if total else set()) if rows is None else list(rows)

    total, found = read_chunk(session, settings, facts, chunk, choose)
    decoder = decoder_of(session, settings, facts)
    named = [(RowRef(place, chunk, row.row), row) for place, row in enumerate(found)]
    return ChunkSample(run, chunk, total, token_rows(named, decoder), decoder is not None)


def find_chunk(facts: ReleaseFacts, chunk: str) -> ChunkFact:
    """The chunk of a name; ChunkNotFound names close matches."""
    found = facts.chunks.get(chunk)
    if found is None:
        nearest = difflib.get_close_matches(chunk[:200], list(facts.chunks), 3, 0.5)
        remedy = f"Did you mean {' or '.join(nearest)}?" if nearest else "See the run's list of chunks."
        raise ChunkNotFound(f"{facts.run} has no chunk {chunk[:200]!r}.", remedy, nearest=nearest)
    return found


def _checkpoints(facts: ReleaseFacts, chunk: ChunkFact) -> list[CheckpointRef]:
    """Checkpoints released in the steps that read the chunk, each once."""
    found: dict[int, CheckpointRef] = {}
    for span in chunk.row.spans:
        first = bisect_left(facts.released_steps, span.first_step)
        end = bisect_right(facts.released_steps, span.last_step)
        found.update((c.row.step or 0, c.ref) for c in facts.released[first:end])
    return [found[step] for step in sorted(found)]


def _step_rows(facts: ReleaseFacts, chunk: str) -> list[StepRows]:
    """First, middle and last step of each of the first spans, where rows can be named without reading a file."""
    found: dict[int, StepRows] = {}
    for span in [s for s in facts.spans.all if s.chunk == chunk][:MAX_SPANS]:
        order, per_step = span.order, facts.rows_per_step(span.order.first_step, span.last_step)
        if per_step is None or order.entry.file is not None:
            continue
        for step in (span.first_step, (span.first_step + span.last_step) // 2, span.last_step):
            try:
                refs = locate_rows(order.entry, per_step, facts.chunk_rows, step, 0, per_step)
            except PortalError:
                break
            rows = [ref.row for ref in refs if ref.chunk == chunk]
            if rows:
                found[step] = StepRows(step, rows[:SHOWN_ROWS], len(rows))
    return [found[step] for step in sorted(found)]


def _orders(facts: ReleaseFacts, chunk: str) -> list[OrderView]:
    """The orders that read the chunk, each once."""
    seen: dict[int, OrderView] = {}
    for span in facts.spans.all:
        if span.chunk == chunk:
            seen.setdefault(span.order.id, span.order.view)
    return list(seen.values())


def _events(facts: ReleaseFacts, chunk: ChunkFact) -> list[EventView]:
    """Events that name the chunk, or fell into its steps."""
    spans = chunk.row.spans
    within = {id(e.view) for span in spans for e in facts.events_by_step.over(span.first_step, span.last_step)}
    return [e for e in facts.events if e.chunk == chunk.row.name or (e.chunk is None and id(e) in within)]
