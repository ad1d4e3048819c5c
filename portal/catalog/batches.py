"""The rows one step read: from the order to the bytes of each row, decoded where a tokenizer is at hand."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

import numpy as np
from sqlalchemy import Engine
from sqlmodel import Session, col

from portal.catalog.answers import OrderView, TokenBatch, TokenRow
from portal.catalog.facts import OrderFact, ReleaseFacts
from portal.catalog.files import FileRow, load_files
from portal.catalog.release import load_facts
from portal.catalog.shelves import engine_of
from portal.catalog.steps import order_at
from portal.errors import BadRequest, IntegrityError, OrderUnknown, PortalError, Unavailable
from portal.manifest.expand import ChunkEntry, FileEntry
from portal.models import File
from portal.settings import Settings
from portal.storage import open_store
from portal.tokens.decode import Decoder, RowText, open_decoder
from portal.tokens.orders import ReadOrder, RowRef, explain_order, locate_rows, rows_total
from portal.tokens.readers import ReadableFile, Row, RowFault, RowReader, open_order_file, open_reader

KEPT_READERS = 256
KEPT_DECODERS = 8
MAX_ROWS = 1000
"""Rows of one JSON answer; a whole batch goes out as a file."""
MAX_TOKENIZER_BYTES = 256 << 20

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class BatchRows:
    """Rows of a batch as read, in their places."""

    facts: ReleaseFacts
    step: int
    order: OrderView
    rows_total: int
    first: int
    rows: list[tuple[RowRef, Row | RowFault]]
    bytes_read: int
    reads: int


class Opened:
    """What was opened lately (readers, decoders), bounded; closing is left to its last user."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The one opened before under ``key``, or a new one."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: Kept = self._kept[key]
                return found
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made


@dataclass(frozen=True)
class Desktop:
    """Readers and decoders of one database's releases."""

    readers: Opened
    decoders: Opened


_desktops: WeakKeyDictionary[Engine, Desktop] = WeakKeyDictionary()
_desktops_lock = threading.Lock()


def read_batch(  # noqa: PLR0913 - the whole question in one call
    session: Session, settings: Settings, run: str, step: int, first: int = 0, count: int = 20, text: bool = True
) -> TokenBatch:
    """Rows ``first .. first+count`` of the batch of ``step``, with their pieces of text when ``text``.

    A row that cannot be read carries its fault; the others are answered. Raises OrderUnknown with the
    reason when rows cannot be named, Unavailable when the bytes are not on this machine.
    """
    if not 0 <= first <= 2**53 or not 0 <= count <= MAX_ROWS:
        raise BadRequest(
            f"Rows {first} to {first + count} cannot be asked for at once.",
            f"Use first >= 0 and count from 0 to {MAX_ROWS}; `format=` gives the whole batch.",
        )
    batch = read_rows(session, settings, run, step, (first, count))
    decoder = _decoder(session, settings, batch.facts)
    rows = [_token_row(ref, row, decoder, text) for ref, row in batch.rows]
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
        explain={"bytes_read": batch.bytes_read, "reads": batch.reads, "row_bytes": sum(r.length for r in rows)},
    )


def read_rows(
    session: Session, settings: Settings, run: str, step: int, window: tuple[int, int] | None = None
) -> BatchRows:
    """The same rows as stored; ``window`` is (first, count), None the whole batch."""
    facts = load_facts(session, run)
    order, per_step = _order(facts, step)
    read_order, entries = _open_order(settings, facts, order)
    total = rows_total(order.entry, per_step, facts.chunk_rows, step, entries)
    first, count = window or (0, total)
    refs = locate_rows(
        order.entry, per_step, facts.chunk_rows, step, first, max(min(count, total - first), 0), read_order
    )
    rows, bytes_read, reads = _read(session, settings, facts, refs)
    return BatchRows(facts, step, order.view, total, first, rows, bytes_read, reads)


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


def _open_order(settings: Settings, facts: ReleaseFacts, order: OrderFact) -> tuple[ReadOrder | None, int | None]:
    """The published index, opened, and its length where it tells."""
    if order.entry.file is None:
        return None, None
    row = facts.loose_files.get(order.entry.file.path)
    if row is None or row.local is None:
        raise Unavailable(
            f"The order of step {order.first_step} lies in {order.entry.file.path}, which is not on this machine.",
            "Publish a local copy of the index file.",
        )
    read = open_order_file(order.entry, _readable(row, settings))
    return read, getattr(read, "entries", None)


def _read(
    session: Session, settings: Settings, facts: ReleaseFacts, refs: Sequence[RowRef]
) -> tuple[list[tuple[RowRef, Row | RowFault]], int, int]:
    by_chunk: dict[str, list[int]] = defaultdict(list)
    for k, ref in enumerate(refs):
        by_chunk[ref.chunk].append(k)
    found: dict[int, Row | RowFault] = {}
    bytes_read = reads = 0
    for name, reader in _readers(session, settings, facts, list(by_chunk)):
        places = by_chunk[name]
        bytes_before, reads_before = reader.bytes_read, reader.reads
        found.update(zip(places, reader.read([refs[k].row for k in places]), strict=True))
        bytes_read += reader.bytes_read - bytes_before
        reads += reader.reads - reads_before
    return [(ref, found[k]) for k, ref in enumerate(refs)], bytes_read, reads


def _readers(
    session: Session, settings: Settings, facts: ReleaseFacts, names: list[str]
) -> Iterator[tuple[str, RowReader]]:
    absent = next((n for n in names if n not in facts.at_hand), None)
    if absent is not None:
        raise Unavailable(
            f"The bytes of chunk {absent} are not on this machine; the portal knows where they are but holds no copy.",
            "Download the chunk from its own address (see its page), or publish a local copy.",
            chunk=absent,
        )
    opened = _desktop(session).readers
    for name, rows in _data_files(session, facts, names).items():
        readable = [_readable(row, settings) for row in rows]
        key = (facts.head.id, name, tuple(_look(f) for f in readable))
        yield name, opened.get(key, partial(_open_reader, settings, facts, name, readable))


def _data_files(session: Session, facts: ReleaseFacts, names: list[str]) -> dict[str, list[FileRow]]:
    unread = {facts.chunks[n].id: n for n in names if n not in facts.data_files}
    if unread:
        found: dict[str, list[FileRow]] = {name: [] for name in unread.values()}
        for row in load_files(session, facts.head.id, col(File.chunk_id).in_(list(unread))):
            found[unread[row.chunk_id or 0]].append(row)
        facts.data_files.update(found)
    return {name: facts.data_files[name] for name in names}


def _open_reader(settings: Settings, facts: ReleaseFacts, name: str, files: list[ReadableFile]) -> RowReader:
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
    folder = settings.data / "store" / "indexes"
    return open_reader(entry, files, folder, facts.head.model.get("vocabulary"), settings.max_line_bytes)


def _readable(row: FileRow, settings: Settings) -> ReadableFile:
    place = row.local or row.places[0]
    return ReadableFile(row.path, place.uri, row.size, row.sha256, open_store(place.uri, settings))


def _look(file: ReadableFile) -> tuple[str, int, int]:
    """Size and time as they are now: a file that changed is opened anew, one that lost its catalogued size refused."""
    path = unquote(urlsplit(file.uri).path)
    try:
        now = os.stat(path)
    except OSError:
        # Its reader names the file and what to do.
        return file.uri, -1, 0
    if file.size is not None and now.st_size != file.size:
        raise IntegrityError(
            f"{file.path} has {now.st_size} bytes; it was published with {file.size}.",
            "Restore the published file, or publish the run again.",
            file=file.path,
        )
    return file.uri, now.st_size, now.st_mtime_ns


def _decoder(session: Session, settings: Settings, facts: ReleaseFacts) -> Decoder | None:
    """The run's own tokenizer; None when it is absent or unusable, because ids are an answer too."""
    row = facts.tokenizer
    if row is None or row.local is None or not row.size or row.size > MAX_TOKENIZER_BYTES:
        return None
    file = _readable(row, settings)
    size = row.size
    try:
        return _desktop(session).decoders.get(
            _look(file), lambda: open_decoder(file.store.read_range(file.uri, 0, size))
        )
    except PortalError:
        return None


def _token_row(ref: RowRef, row: Row | RowFault, decoder: Decoder | None, text: bool) -> TokenRow:
    if isinstance(row, RowFault):
        told = f"{row.message} {row.remedy}".strip()
        return TokenRow(ref.position, ref.chunk, ref.row, None, [], None, [], False, row.file, row.offset, 0, told)
    ids = row.token_ids.astype(np.int64, copy=False)
    read = decoder.read(ids, text) if decoder else RowText(None, [], [])
    return TokenRow(
        position=ref.position,
        chunk=ref.chunk,
        row=ref.row,
        source=row.source,
        token_ids=ids.tolist(),
        pieces=read.pieces,
        document_starts=read.document_starts,
        starts_mid_document=bool(decoder and len(ids) and 0 not in read.document_starts),
        file=row.file,
        offset=row.offset,
        length=row.length,
        special=read.specials,
    )


def _desktop(session: Session) -> Desktop:
    with _desktops_lock:
        return _desktops.setdefault(engine_of(session), Desktop(Opened(KEPT_READERS), Opened(KEPT_DECODERS)))
