"""Chunks that are here but do not hold what the manifest says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ReadFile
from portal.errors import PortalError
from portal.manifest import ChunkEntry, Manifest, chunks_of
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.blobs import is_here
from portal.tokens.readers import ReadableFile, RowFault, RowReader, open_reader

LOOKED_AT = 16
"""Rows of each chunk that are read, from the first to the last, evenly spread."""


@dataclass(frozen=True)
class LookedChunks:
    """What chunks that are here say of themselves."""

    findings: list[FoundFinding]
    rows: dict[str, int]
    """Rows that the files of each of them hold, where they can be read."""


def look_at_chunks(
    manifest: Manifest, chunks: Iterable[tuple[str, Sequence[ReadFile]]], settings: Settings
) -> LookedChunks:
    """Chunks (name, files in shard order) that are here, with findings about those whose reader refuses them, that
    contradict themselves, count other rows than declared, or hold rows that are none of this model among a few."""
    declared = {c.name: c for c in chunks_of(manifest)}
    looked = LookedChunks([], {})
    for name, files in chunks:
        looked.findings.extend(_check(declared[name], files, manifest.model.vocabulary, settings, looked.rows))
    return looked


def _check(
    declared: ChunkEntry, files: Sequence[ReadFile], vocabulary: int | None, settings: Settings, counted: dict[str, int]
) -> Iterator[FoundFinding]:
    if not files or not all(is_here(f.uri, settings) and f.state != "missing" for f in files):
        return
    readable = [ReadableFile(f.path, f.uri, f.size, f.sha256, open_store(f.uri, settings)) for f in files]
    indexes = settings.data / "store" / "indexes"
    try:
        reader = open_reader(declared, readable, indexes, vocabulary)
        rows, faults = reader.rows, _faulty_rows(reader)
        # That rows are counted otherwise is a finding of its own.
        contradictions = [message for message in reader.check() if message not in RowReader.check(reader)]
        reader.close()
        counted[declared.name] = rows
    except PortalError as error:
        yield FoundFinding(
            "chunk-unreadable",
            "error",
            f"Chunk {declared.name} cannot be read: {error}",
            None,
            {"chunk": declared.name},
            declared.name,
        )
        return
    for message in contradictions:
        yield FoundFinding(
            "chunk-contradicts-itself",
            "error",
            f"Chunk {declared.name}: {message}",
            None,
            {"chunk": declared.name},
            message,
        )
    if declared.rows is not None and rows != declared.rows:
        yield FoundFinding(
            "chunk-rows-differ",
            "error",
            f"Chunk {declared.name} holds {rows:,} rows; the manifest says {declared.rows:,}.",
            None,
            {"chunk": declared.name, "declared": declared.rows, "found": rows},
            declared.name,
        )
    if faults:
        first = faults[0]
        yield FoundFinding(
            "row-unreadable",
            "error",
            f"Chunk {declared.name}: of {min(rows, LOOKED_AT)} rows looked at, {len(faults)} cannot be read; row {first.row:,}: {first.message}.",
            None,
            {"chunk": declared.name, "rows": [f.row for f in faults], "file": first.file, "offset": first.offset},
            declared.name,
        )


def _faulty_rows(reader: RowReader) -> list[RowFault]:
    """Rows among a few that cannot be read."""
    last = reader.rows - 1
    chosen = sorted({last * k // (LOOKED_AT - 1) for k in range(LOOKED_AT)}) if last >= 0 else []
    return [row for row in reader.read(chosen) if isinstance(row, RowFault)]
