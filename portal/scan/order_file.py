"""Published order files that are here: whether they reach to the last step, and whether every row they name exists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ReadFile
from portal.errors import DataFault, PortalError
from portal.manifest import Manifest, OrderEntry, StageEntry, orders_of, stages_of
from portal.scan.order import WIDTHS, rows_needed, short_order_file, stage_at
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.blobs import is_here
from portal.tokens.readers import OrderFile, ReadableFile, open_order_file

AT_ONCE = 1 << 20
"""Entries that are looked at together."""
LISTED = 100
"""Chunks that evidence lists."""
NO_CHUNK = -1
_ENDS = np.iinfo(np.int64)


@dataclass(frozen=True)
class Numbering:
    """How an order numbers rows, and what its chunks really hold."""

    chunks: Sequence[str]
    starts: Sequence[int]
    """Number of the first row of each chunk, then of the row behind the last one."""
    held: Sequence[int]
    """Rows in the files of each chunk, where those are here; else as declared."""

    @property
    def gaps(self) -> list[tuple[int, int, int]]:
        """(place of the chunk, first, end) of numbers no row answers to, ascending; those behind all are the last chunk's."""
        found = [(NO_CHUNK, int(_ENDS.min), 0)]
        for k, (start, end, held) in enumerate(zip(self.starts, self.starts[1:], self.held, strict=False)):
            stop = end if k < len(self.chunks) - 1 else int(_ENDS.max)
            if start + held < stop:
                found.append((k, min(start + held, end), stop))
        return found


@dataclass
class ShortChunk:
    """Entries of an order file that name rows a chunk does not hold."""

    chunk: int
    """Its place among the chunks of the order; NO_CHUNK for numbers below 0."""
    position: int
    """Of the first such entry in the file."""
    entry: int
    """That entry."""
    highest: int
    count: int
    """Such entries in all."""


def find_order_file_faults(
    manifest: Manifest,
    rows: Mapping[str, int | None],
    held: Mapping[str, int],
    files: Iterable[ReadFile],
    settings: Settings,
) -> list[FoundFinding]:
    """Order files that cannot be read, end too early, or name rows their chunks do not hold.

    ``rows`` (by chunk, as declared or counted) number the rows; ``held`` is what the files of chunks that are here hold.
    """
    here = {f.path: f for f in files if is_here(f.uri, settings) and f.state != "missing"}
    stages = stages_of(manifest)
    found: list[FoundFinding] = []
    for order in orders_of(manifest):
        if order.kind == "index" and order.file is not None and order.file.path in here:
            found += _check(order, stages, _numbering(order, rows, held), here[order.file.path], settings)
    return found


def _numbering(order: OrderEntry, rows: Mapping[str, int | None], held: Mapping[str, int]) -> Numbering | None:
    counts = [rows.get(name) for name in order.chunks]
    known = [c for c in counts if c is not None]
    if order.per_chunk or not counts or len(known) < len(counts):
        return None
    there = [held.get(name, count) for name, count in zip(order.chunks, known, strict=True)]
    return Numbering(order.chunks, [0, *accumulate(known)], there)


def _check(
    order: OrderEntry,
    stages: Sequence[StageEntry],
    numbering: Numbering | None,
    file: ReadFile,
    settings: Settings,
) -> Iterator[FoundFinding]:
    readable = ReadableFile(file.path, file.uri, file.size, file.sha256, open_store(file.uri, settings))
    needed = rows_needed(order, stages)
    try:
        opened = open_order_file(order, readable)
        short = _find_short(opened, order.start, needed, numbering) if numbering else []
        opened.close()
    except DataFault as error:
        message = f"The order file {file.path} cannot be read: {error}"
        yield FoundFinding("order-unreadable", "error", message, order.first_step, {"file": file.path}, order.where)
        return
    except PortalError:
        return  # whether a file is still there is a question of `fixity`
    # Where its size alone tells, `find_order_faults` says so, also of files that are elsewhere.
    told = order.dtype is not None and (file.size or 0) // WIDTHS[order.dtype] < order.start + (needed or 0)
    if needed is not None and not told and opened.entries < order.start + needed:
        yield short_order_file(order, opened.entries, needed)
    if numbering and short:
        yield _outside(order, stage_at(order.first_step, stages), numbering, short)


def _find_short(opened: OrderFile, start: int, needed: int | None, numbering: Numbering) -> list[ShortChunk]:
    """What the entries that are read name beyond the rows there are, by chunk, the first to be met first."""
    gaps = numbering.gaps
    edges = np.array([edge for _, first, end in gaps for edge in (first, end)], np.int64)
    found: dict[int, ShortChunk] = {}
    stop = opened.entries if needed is None else min(opened.entries, start + needed)
    for begin in range(start, stop, AT_ONCE):
        entries = np.minimum(opened(begin, min(AT_ONCE, stop - begin)), _ENDS.max - 1)
        if entries.min() >= 0 and entries.max() < gaps[1][1]:
            continue  # the usual case, ten times as fast
        # Odd between the first and the end of a gap, even outside of all.
        place = np.searchsorted(edges, entries, side="right")
        bad = np.flatnonzero(place & 1)
        for gap in np.unique(place[bad] >> 1):
            at = bad[place[bad] >> 1 == gap]
            named = entries[at]
            met = ShortChunk(gaps[gap][0], begin + int(at[0]), int(named[0]), int(named.max()), len(at))
            known = found.setdefault(int(gap), met)
            if known is not met:
                known.highest, known.count = max(known.highest, met.highest), known.count + met.count
    return sorted(found.values(), key=lambda s: s.position)


def _outside(
    order: OrderEntry, stage: StageEntry | None, numbering: Numbering, short: Sequence[ShortChunk]
) -> FoundFinding:
    first, path, total = short[0], order.file.path if order.file else "", numbering.starts[-1]
    batch = stage.rows_per_step if stage else None
    step = order.first_step + (first.position - order.start) // batch if batch else order.first_step
    chunks = [
        {
            "chunk": numbering.chunks[s.chunk],
            "needed": s.highest - numbering.starts[s.chunk] + 1,
            "held": numbering.held[s.chunk],
            "entries": s.count,
        }
        for s in short
        if s.chunk != NO_CHUNK
    ]
    return FoundFinding(
        "order-outside-data",
        "error",
        f"Entry {first.position:,} of the order file {path}, read at step {step:,}, names {_named(first, numbering)}."
        + (f" So it is with {len(short) - 1:,} more of its chunks." if len(short) > 1 else ""),
        step,
        {"file": path, "position": first.position, "row": first.entry, "rows": total, "chunks": chunks[:LISTED]},
        order.where,
    )


def _named(short: ShortChunk, numbering: Numbering) -> str:
    """The row that is not there, and what its chunk would need."""
    total = numbering.starts[-1]
    if short.chunk == NO_CHUNK:
        return f"row {short.entry:,}; rows are counted from 0"
    start, held = numbering.starts[short.chunk], numbering.held[short.chunk]
    chunk = f"{numbering.chunks[short.chunk]}: {short.highest - start + 1:,} rows needed, {held:,} held"
    if short.entry >= total:
        return f"row {short.entry:,}; its chunks hold {total:,} (the last of them, {chunk})"
    return f"row {short.entry - start:,} of chunk {chunk}"
