"""Chunks: list them, and one with its files and what happened while it was read."""

from __future__ import annotations

import difflib

from sqlmodel import Session, col

from portal.catalog.answers import ChunkRow, ChunkView, EventView, OrderView, Page
from portal.catalog.facts import ChunkFact, ReleaseFacts
from portal.catalog.files import Links, load_files
from portal.catalog.paging import slice_page
from portal.catalog.release import load_facts
from portal.errors import ChunkNotFound
from portal.models import File
from portal.settings import Settings


def list_chunks(session: Session, run: str, limit: int = 100, cursor: str | None = None) -> Page[ChunkRow]:
    """Chunks in the order of the manifest, each with the steps that read it."""
    facts = load_facts(session, run)
    return slice_page([c.row for c in facts.chunks.values()], facts.head.version, limit, cursor)


def get_chunk(session: Session, run: str, chunk: str, settings: Settings | None = None) -> ChunkView:
    """A chunk with its files. ChunkNotFound names close matches."""
    facts = load_facts(session, run)
    found = facts.chunks.get(chunk)
    if found is None:
        nearest = difflib.get_close_matches(chunk[:200], list(facts.chunks), 3, 0.5)
        remedy = f"Did you mean {' or '.join(nearest)}?" if nearest else "See the run's list of chunks."
        raise ChunkNotFound(f"{facts.run} has no chunk {chunk[:200]!r}.", remedy, nearest=nearest)
    links = Links.of(settings)
    names = list(facts.chunks)
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
    )


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
