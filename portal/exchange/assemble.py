"""One release record from what discovery, hashing and reading found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import orjson

from portal.catalog.recorded import RecordedFile, ReleaseRecord
from portal.catalog.rows import storable
from portal.errors import PortalError
from portal.exchange.digests import Digested
from portal.exchange.discover import Discovery
from portal.exchange.ingest import Numbers
from portal.manifest import ChunkEntry, Manifest, OrderEntry, StageEntry, orders_of, stages_of
from portal.metrics.series import StoredSeries
from portal.settings import Settings
from portal.storage import open_store
from portal.tokens.orders import SpanOfChunk, chunk_spans
from portal.tokens.readers import ReadableFile, is_indexed, open_reader


def assemble_release(
    manifest: Manifest,
    found: Discovery,
    digested: Digested,
    numbers: Numbers,
    stored: Sequence[StoredSeries],
    settings: Settings,
) -> ReleaseRecord:
    """The release as the catalog's write door takes it.

    Chunks without declared rows are counted here, and indexes that are still missing are built, so that
    neither happens inside the transaction.
    """
    chunks = [_chunk(entry, [digested.recorded(f) for f in files], manifest, settings) for entry, files in found.chunks]
    rows = {entry.name: entry.rows for entry, _ in chunks}
    stages = stages_of(manifest)
    return ReleaseRecord(
        manifest=manifest,
        manifest_json=canonical_manifest(manifest),
        fingerprint=fingerprint_of(manifest, found, digested),
        root=found.root,
        checkpoints=[(entry, [digested.recorded(f) for f in files]) for entry, files in found.checkpoints],
        chunks=chunks,
        files=[digested.recorded(f) for f in found.loose],
        orders=[(order, _spans(order, stages, rows)) for order in orders_of(manifest)],
        configs=numbers.configs,
        series=stored,
        detected=numbers.detected,
        evaluations=numbers.evaluations,
        digests=digested.new,
    )


def canonical_manifest(manifest: Manifest) -> str:
    """The manifest as JSON with sorted keys and without what it leaves to defaults; equal text, equal meaning."""
    written = storable(manifest.model_dump(mode="json", exclude_unset=True))
    return orjson.dumps(written, option=orjson.OPT_SORT_KEYS).decode()


def fingerprint_of(manifest: Manifest, found: Discovery, digested: Digested) -> str:
    """sha256 over the manifest and over place, size and digest of every file."""
    lines = sorted({f"{f.path}\0{f.uri}\0{f.size}\0{digested.sha256.get(f.uri) or f.sha256}" for f in found.files})
    return hashlib.sha256("\n".join([canonical_manifest(manifest), found.root, *lines]).encode()).hexdigest()


def _chunk(
    entry: ChunkEntry, files: list[RecordedFile], manifest: Manifest, settings: Settings
) -> tuple[ChunkEntry, list[RecordedFile]]:
    if not files or not all(f.state == "verified" for f in files):
        return entry, files
    indexes = settings.data / "store" / "indexes"
    readable = [ReadableFile(f.path, f.uri, f.size, f.sha256, open_store(f.uri, settings)) for f in files]
    if entry.rows is not None and (entry.format != "jsonl" or all(is_indexed(f, indexes) for f in readable)):
        return entry, files
    try:
        reader = open_reader(entry, readable, indexes, manifest.model.vocabulary)
    except PortalError:
        # The scan says what is wrong with it; the rest of the run is published all the same.
        return entry, files
    rows = entry.rows if entry.rows is not None else reader.rows
    reader.close()
    tokens = entry.tokens if entry.tokens is not None else rows * entry.row_length if entry.row_length else None
    return replace(entry, rows=rows, tokens=tokens), files


def _spans(order: OrderEntry, stages: Sequence[StageEntry], rows: Mapping[str, int | None]) -> list[SpanOfChunk]:
    batch = next((s.rows_per_step for s in stages if s.first_step <= order.first_step <= s.last_step), None)
    return chunk_spans(order, batch, rows)
