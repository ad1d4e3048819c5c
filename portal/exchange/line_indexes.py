"""Line indexes of compressed chunks, stored right after hashing; those of plain text come out of the hashing itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

from portal.errors import PortalError
from portal.exchange.digests import Digested, HashingSettings
from portal.exchange.discover import Discovery
from portal.storage.hashing import usable_cores
from portal.tokens.readers import ReadableFile, index_lines, is_indexed


def index_chunks(found: Discovery, digested: Digested, to: HashingSettings) -> None:
    """Build every line index that is not stored yet, several files at once.

    Each is named after the sha256 of its file and put in place whole, so a killed publication goes on where it
    stopped. A file that cannot be indexed is left to the scan, which says what is wrong with it.
    """
    waiting = _not_indexed(found, digested, to)
    if not waiting:
        return
    if to.progress:
        to.progress.begin(f"Indexing the lines of {len(waiting):,} files", sum(file.size or 0 for file in waiting))
    pool = ThreadPoolExecutor(to.workers or usable_cores(), thread_name_prefix="lines")
    try:
        running = {pool.submit(index_lines, file, to.indexes): file for file in waiting}
        for done in as_completed(running):
            with suppress(PortalError):
                done.result()
            if to.progress:
                to.progress.advance(running[done].size or 0)
    finally:
        pool.shutdown(cancel_futures=True)


def _not_indexed(found: Discovery, digested: Digested, to: HashingSettings) -> list[ReadableFile]:
    """Line files that are here whose index is missing, the largest first, each content once."""
    recorded = [
        digested.recorded(f)
        for chunk, files in found.chunks
        if chunk.format == "jsonl"
        for f in files
        if f.uri in digested.sha256
    ]
    files = {f.sha256: ReadableFile(f.path, f.uri, f.size, f.sha256, to.open(f.uri)) for f in recorded}
    waiting = [file for file in files.values() if not is_indexed(file, to.indexes)]
    return sorted(waiting, key=lambda file: file.size or 0, reverse=True)
