"""The rows one step read: from the order to the bytes of each row, decoded where a tokenizer is at hand."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Engine
from sqlmodel import Session, col

from portal.catalog.answers import OrderView, TokenBatch
from portal.catalog.facts import OrderFact, ReleaseFacts
from portal.catalog.files import FileRow, load_files, place_in_reach
from portal.catalog.opened import Lent, Opened
from portal.catalog.reach import indexes_of, is_far, look, readable_file, refuse_out_of_reach
from portal.catalog.release import load_facts
from portal.catalog.shelves import engine_of
from portal.catalog.steps import order_at
from portal.catalog.token_rows import token_rows
from portal.database import let_go
from portal.errors import BadRequest, OrderUnknown, PortalError, Unavailable
from portal.manifest.expand import ChunkEntry, FileEntry
from portal.models import File
from portal.settings import Settings
from portal.storage import Meter
from portal.tokens.decode import Decoder, open_decoder
from portal.tokens.orders import ReadOrder, RowRef, explain_order, locate_rows, rows_total
from portal.tokens.readers import ReadableFile, Row, RowFault, RowReader, open_order_file, open_reader
from portal.tokens.readers.rows import Tally

KEPT_READERS = 256
KEPT_DECODERS = 8
MAX_ROWS = 1000
"""Rows of one JSON answer; a whole batch goes out as a file."""
MAX_TOKENIZER_BYTES = 256 << 20


@dataclass(frozen=True)
class BatchRows:
    """Rows of a batch as read, in their places."""

    facts: ReleaseFacts
    step: int
    order: OrderView
    rows_total: int
    first: int
    rows: list[tuple[RowRef, Row | RowFault]]
    cost: Tally = field(default_factory=Tally)
    """What reading them took."""


@dataclass(frozen=True)
class Desktop:
    """Readers and decoders of one database's releases."""

    readers: Lent[RowReader]
    decoders: Opened


_desktops: WeakKeyDictionary[Engine, Desktop] = WeakKeyDictionary()
_desktops_lock = threading.Lock()


def read_batch(  # noqa: PLR0913 - the whole question in one call
    session: Session,
    settings: Settings,
    run: str,
    step: int,
    first: int = 0,
    count: int = 20,
    text: bool = True,
    written: bool = False,
) -> TokenBatch:
    """Rows ``first .. first+count`` of the batch of ``step``, with their pieces of text when ``text``.

    With ``written`` the ids and pieces of each row are ready JSON (see `token_rows`).
    A row that cannot be read carries its fault; the others are answered. Raises OrderUnknown with the
    reason when rows cannot be named, Unavailable when the bytes are not on this machine.
    """
    if not 0 <= first <= 2**53 or not 0 <= count <= MAX_ROWS:
        raise BadRequest(
            f"Rows {first} to {first + count} cannot be asked for at once.",
            f"Use first >= 0 and count from 0 to {MAX_ROWS}; `format=` gives the whole batch.",
        )
    batch = read_rows(session, settings, run, step, (first, count))
    decoder = decoder_of(session, settings, batch.facts)
    rows = token_rows(batch.rows, decoder, text, written)
    vocabulary = batch.facts.head.model.get("vocabulary") or (decoder.vocabulary if decoder else None)
    return TokenBatch(
        run=run,
        step=step,
        order=batch.order,
        rows_total=batch.rows_total,
        first=first,
        rows=rows,
        vocabulary=vocabulary,
        tokenizer=decoder is not None,
        explain=_explain(batch.cost, sum(r.length for r in rows)),
    )


def read_rows(
    session: Session, settings: Settings, run: str, step: int, window: tuple[int, int] | None = None
) -> BatchRows:
    """The same rows as stored; ``window`` is (first, count), None the whole batch."""
    return rows_of(session, settings, load_facts(session, run), step, window)


def rows_of(
    session: Session, settings: Settings, facts: ReleaseFacts, step: int, window: tuple[int, int] | None = None
) -> BatchRows:
    """`read_rows` of any release, the current one or an earlier version."""
    order, per_step = _order(facts, step)
    cost = Tally()
    read_order, entries = _open_order(session, settings, facts, order, cost)
    total = rows_total(order.entry, per_step, facts.chunk_rows, step, entries)
    first, count = window or (0, total)
    refs = locate_rows(
        order.entry, per_step, facts.chunk_rows, step, first, max(min(count, total - first), 0), read_order
    )
    rows = _read(session, settings, facts, refs, cost)
    return BatchRows(facts, step, order.view, total, first, rows, cost)


def batch_locator(
    session: Session, settings: Settings, facts: ReleaseFacts
) -> Callable[[int], tuple[OrderView, int, list[RowRef]]]:
    """Names the rows of any step without reading them: (order, rows of a full batch, rows there are).

    Index files are opened once, and the session is let go before: a plan names the rows of many steps. The function
    raises OrderUnknown with the reason when rows cannot be named.
    """
    opened: dict[int, tuple[ReadOrder | None, int | None]] = {}

    def locate(step: int) -> tuple[OrderView, int, list[RowRef]]:
        order, per_step = _order(facts, step)
        if order.id not in opened:
            opened[order.id] = _open_order(session, settings, facts, order, Tally(), True)
        read_order, entries = opened[order.id]
        total = rows_total(order.entry, per_step, facts.chunk_rows, step, entries)
        refs = locate_rows(order.entry, per_step, facts.chunk_rows, step, 0, total, read_order)
        return order.view, per_step, refs

    return locate


def chunk_files(session: Session, facts: ReleaseFacts, names: Sequence[str]) -> dict[str, list[FileRow]]:
    """The files of these chunks, each in the order of its shards."""
    return _data_files(session, facts, list(names))


def read_chunk(
    session: Session, settings: Settings, facts: ReleaseFacts, name: str, choose: Callable[[int], Sequence[int]]
) -> tuple[int, list[Row | RowFault]]:
    """Rows of one chunk as they lie in its files: ``choose`` is told how many there are and names those wanted.

    Unavailable when the chunk's bytes are not on this machine.
    """
    files = _data_files(session, facts, [name])[name]
    refuse_out_of_reach(name, facts.chunks[name].row.format, files, settings)
    ready = _readable(session, settings, files)
    # Far away or not: thousands of rows may be asked for, and text is read from its beginning.
    let_go(session)
    with _reader(session, settings, facts, name, ready, Meter()) as reader:
        rows = reader.read(choose(reader.rows))
        return reader.rows, _with_source(rows, facts.chunks[name].row.sources)


def _order(facts: ReleaseFacts, step: int) -> tuple[OrderFact, int]:
    facts.check_step(step)
    if step == 0:
        raise BadRequest(
            "Step 0 is the initial model: it read no rows.", "The first batch is that of step 1.", nearest=[1]
        )
    order = order_at(facts, step)
    if order is None:
        raise OrderUnknown(explain_order(None), "The release's authors have not said which rows this step read.")
    per_step = facts.rows_per_step(order.first_step, step)
    if per_step is None:
        raise OrderUnknown(
            f"How many rows each step from {order.first_step} to {step} reads is not recorded, or changes inside one order.",
            "State `rows_per_step` in the manifest, with one order per batch size.",
        )
    return order, per_step


def _open_order(
    session: Session, settings: Settings, facts: ReleaseFacts, order: OrderFact, cost: Tally, leave: bool = False
) -> tuple[ReadOrder | None, int | None]:
    """The published index, opened, and its length where it tells; what it reads elsewhere is counted in ``cost``.

    ``leave``: the session is let go for a file on this machine, too.
    """
    if order.entry.file is None:
        return None, None
    row = facts.loose_file(order.entry.file.path)
    if row is None or place_in_reach(row) is None:
        raise Unavailable(
            f"The order of step {order.first_step} lies in {order.entry.file.path}, which is not on this machine.",
            "Publish a local copy of the index file.",
        )
    file = readable_file(session, settings, row)
    if leave or is_far([file]):
        let_go(session)
    read = open_order_file(order.entry, file, cost.meter)
    return read, getattr(read, "entries", None)


def _read(
    session: Session, settings: Settings, facts: ReleaseFacts, refs: Sequence[RowRef], cost: Tally
) -> list[tuple[RowRef, Row | RowFault]]:
    by_chunk: dict[str, list[int]] = defaultdict(list)
    for k, ref in enumerate(refs):
        by_chunk[ref.chunk].append(k)
    data_files = _data_files(session, facts, list(by_chunk))
    for name, files in data_files.items():
        refuse_out_of_reach(name, facts.chunks[name].row.format, files, settings)
    found: dict[int, Row | RowFault] = {}
    readable = {name: _readable(session, settings, files) for name, files in data_files.items()}
    if is_far([file for files in readable.values() for file in files]):
        # Nobody else is to wait for the database while this one waits for the network.
        let_go(session)
    for name, ready in readable.items():
        places = by_chunk[name]
        with _reader(session, settings, facts, name, ready, cost.meter) as reader:
            before = replace(reader.tally, meter=replace(reader.tally.meter))
            rows = reader.read([refs[k].row for k in places])
            cost.add_since(before, reader.tally)
        found.update(zip(places, _with_source(rows, facts.chunks[name].row.sources), strict=True))
    return [(ref, found[k]) for k, ref in enumerate(refs)]


def _explain(cost: Tally, row_bytes: int) -> dict[str, int]:
    """Reads and bytes in all; requests and bytes received from elsewhere, and how many of those used no digest
    vouches for."""
    return {
        "bytes_read": cost.bytes_read,
        "reads": cost.reads,
        "row_bytes": row_bytes,
        "requests": cost.meter.requests,
        "bytes_received": cost.meter.bytes,
        "bytes_unverified": cost.meter.unverified,
    }


def _with_source(rows: list[Row | RowFault], sources: Mapping[str, Any]) -> list[Row | RowFault]:
    """Where a chunk declares one source, rows that do not say theirs come from it."""
    if len(sources) != 1:
        return rows
    (only,) = sources
    return [row._replace(source=only) if isinstance(row, Row) and row.source is None else row for row in rows]


def _readable(session: Session, settings: Settings, files: Sequence[FileRow]) -> list[ReadableFile]:
    return [readable_file(session, settings, row) for row in files]


def _reader(
    session: Session,
    settings: Settings,
    facts: ReleaseFacts,
    name: str,
    readable: list[ReadableFile],
    meter: Meter,
) -> AbstractContextManager[RowReader]:
    key = (facts.head.id, name, tuple(look(f, meter) for f in readable))
    return _desktop(session).readers.lend(key, partial(_open_reader, settings, facts, name, readable, meter))


def _data_files(session: Session, facts: ReleaseFacts, names: list[str]) -> dict[str, list[FileRow]]:
    unread = {facts.chunks[n].id: n for n in names if n not in facts.data_files}
    if unread:
        found: dict[str, list[FileRow]] = {name: [] for name in unread.values()}
        for row in load_files(session, facts.head.id, col(File.chunk_id).in_(list(unread))):
            found[unread[row.chunk_id or 0]].append(row)
        facts.data_files.update(found)
    return {name: facts.data_files[name] for name in names}


def _open_reader(
    settings: Settings, facts: ReleaseFacts, name: str, files: list[ReadableFile], meter: Meter
) -> RowReader:
    """A new reader; what opening it took elsewhere is counted in ``meter``."""
    chunk = facts.chunks[name]
    row = chunk.row
    entry = ChunkEntry(
        name=name,
        position=row.position,
        files=tuple(FileEntry(f.path, f.size, f.sha256, "data") for f in files),
        format=row.format,
        dtype=chunk.dtype,
        header=chunk.header,
        dialect=chunk.dialect,
        column=chunk.column,
        rows=row.rows,
        row_length=row.row_length,
        tokens=row.tokens,
    )
    vocabulary = facts.head.model.get("vocabulary")
    reader = open_reader(entry, files, indexes_of(settings), vocabulary, settings.max_line_bytes)
    opening = reader.tally.meter
    meter.count(opening.requests, opening.bytes, opening.unverified)
    return reader


def decoder_of(session: Session, settings: Settings, facts: ReleaseFacts) -> Decoder | None:
    """The run's own tokenizer; None when it is absent or unusable, because ids are an answer too."""
    row = facts.tokenizer
    if row is None or place_in_reach(row) is None:
        return None
    try:
        file = readable_file(session, settings, row)
        if is_far([file]):
            let_go(session)
        seen = look(file, Meter())
        size = row.size or seen[1]
        if not 0 < size <= MAX_TOKENIZER_BYTES:
            return None
        return _desktop(session).decoders.get(seen, lambda: open_decoder(file.store.read_range(file.uri, 0, size)))
    except PortalError:
        return None


def _desktop(session: Session) -> Desktop:
    with _desktops_lock:
        return _desktops.setdefault(engine_of(session), Desktop(Lent(KEPT_READERS), Opened(KEPT_DECODERS)))
