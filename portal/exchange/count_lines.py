"""Where the lines of chunks elsewhere begin: counted in one pass over each file where it lies, none of it is kept.

The pass hashes what it reads: an index is stored for bytes that are what was published, or whose sha256 is known from
then on, with the digests of their blocks. It is written down as it goes, so a killed pass continues where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from blake3 import blake3

from portal.catalog.data import find_chunk
from portal.catalog.facts import ReleaseFacts
from portal.catalog.files import FileRow
from portal.catalog.mirrored import Copy, list_released, record_copies
from portal.catalog.reach import indexes_of, readable_here
from portal.catalog.release import load_facts
from portal.database import Engine, open_session
from portal.errors import IntegrityError, PortalError
from portal.exchange.copying import Source, open_source
from portal.exchange.mirror import ALL, FilesReport, MirrorProgress
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.hashing import BLOCK_DIGEST_BYTES, BLOCK_SIZE, FileDigest
from portal.storage.pace import Pace
from portal.storage.sha256 import Sha256
from portal.tokens.readers import OffsetBuilder, index_path, is_indexed, save_index

NOTED_EVERY = 128 << 20
"""Bytes after which a pass is written down; what came since then is read again after a kill."""
COMPRESSED = (".gz", ".zst")


@dataclass
class CountReport(FilesReport):
    """What became of files whose lines were to be counted."""

    counted: int = 0
    lines: int = 0


def count_lines(
    engine: Engine,
    settings: Settings,
    run: str,
    chunks: Sequence[str],
    progress: MirrorProgress,
    pace: Pace | None = None,
) -> CountReport:
    """Index the jsonl files of ``chunks`` (all without any) that lie elsewhere; each is recorded as soon as it is done.

    Raises RunNotFound, ChunkNotFound; a file that cannot be read is in the report, and the others go on.
    """
    with open_session(engine) as session:
        facts = load_facts(session, run)
        names = _names(facts, chunks)
        release_id, files = list_released(session, run)
    wanted = [f for f in files if f.chunk_id in names]
    far = [f for f in wanted if f.local is None and not is_indexed(readable_here(f), indexes_of(settings))]
    report = CountReport(run, here=len(wanted) - len(far))
    progress.begin("count", sum(f.size or 0 for f in far))
    for file in far:
        try:
            if file.path.endswith(COMPRESSED):
                report.failed.append(
                    f"{file.path}: its lines can be counted in a copy alone, as it is compressed: `portal mirror` makes one."
                )
                continue
            place = file.elsewhere
            source = open_source(file, settings, pace or Pace(), [place] if place else [])
            _Pass(settings, file, source, report, progress).run(engine, release_id)
        except IntegrityError as error:
            report.refused.append(f"{file.path}: {error.message}")
        except PortalError as error:
            report.failed.append(f"{file.path}: {error.message}")
    return report


def _names(facts: ReleaseFacts, chunks: Sequence[str]) -> set[int | None]:
    """Ids of the jsonl chunks that were asked for."""
    chosen = facts.chunks.values() if not chunks or ALL in chunks else [find_chunk(facts, name) for name in chunks]
    return {chunk.id for chunk in chosen if chunk.row.format == "jsonl"}


class _Pass:
    """One file, read from where an earlier pass over the same bytes had come to."""

    def __init__(
        self, settings: Settings, file: FileRow, source: Source, report: CountReport, progress: MirrorProgress
    ) -> None:
        self._settings, self._file, self._source = settings, file, source
        self._report, self._progress = report, progress
        # Other bytes behind the same address are another pass, never the rest of this one.
        etag = open_store(source.uri, settings).stat(source.uri).etag
        key = hashlib.sha256(f"{source.uri}\0{source.size}\0{etag}".encode()).hexdigest()
        folder = settings.data / "store" / "counting"
        self._state, self._starts, self._blocks = (folder / f"{key}.{end}" for end in ("json", "starts", "blocks"))
        self._begin = 0
        self._lines = 0
        self._sha256 = Sha256()

    def run(self, engine: Engine, release_id: int) -> None:
        """Count, compare, store the index, record. IntegrityError where the bytes are not what was published."""
        self._state.parent.mkdir(parents=True, exist_ok=True)
        self._resume()
        builder = OffsetBuilder(self._file.path, self._begin, self._lines)
        at = noted = self._begin
        block, blocks = blake3(), bytearray()
        open_line = False
        # Pieces end where blocks end, as the pass begins at one.
        for data in self._source.pieces(self._begin):
            builder.feed(data)
            self._sha256.update(data)
            open_line = data[-1:] != b"\n"
            block.update(data)
            at += len(data)
            if at % BLOCK_SIZE == 0:
                blocks += block.digest()
                block = blake3()
            self._progress.advance(len(data))
            self._report.bytes += len(data)
            if at - noted >= NOTED_EVERY and at % BLOCK_SIZE == 0:
                self._note(builder, blocks, at)
                noted = at
        if at % BLOCK_SIZE:
            blocks += block.digest()
        builder.refuse_dense()
        self._append(builder, blocks)
        self._finish(engine, release_id, open_line)

    def _finish(self, engine: Engine, release_id: int, open_line: bool) -> None:
        sha256, size = self._sha256.hexdigest(), self._source.size
        starts, digests = np.fromfile(self._starts, dtype="<u8"), self._blocks.read_bytes()
        self._forget()
        if self._file.sha256 not in (None, sha256):
            raise IntegrityError(
                f"its bytes have the sha256 {sha256}; {self._file.sha256} was published.",
                "Restore the published file, or publish the run again if the new bytes are meant.",
            )
        end = [np.array([size], dtype=np.uint64)] if open_line else []
        found = np.concatenate([np.zeros(1, dtype=np.uint64), starts.astype(np.uint64), *end])
        # The index comes first: what is recorded as known is never looked at again.
        save_index(index_path(indexes_of(self._settings), sha256), found)
        digest = FileDigest(sha256, size, BLOCK_SIZE, digests)
        with open_session(engine) as session:
            record_copies(session, release_id, [Copy(self._file.id, self._source.uri, digest, None)])
            session.commit()
        self._report.counted += 1
        self._report.lines += len(found) - 1

    def _resume(self) -> None:
        """Take up what is written down; anything that does not fit together is begun anew."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            noted = orjson.loads(self._state.read_bytes())
            at, lines, state = int(noted["at"]), int(noted["lines"]), bytes.fromhex(noted["sha256"])
            held = self._starts.stat().st_size, self._blocks.stat().st_size
            needed = lines * 8, at // BLOCK_SIZE * BLOCK_DIGEST_BYTES
            if state and held[0] >= needed[0] and held[1] >= needed[1] and 0 < at <= self._source.size:
                # A kill may have come between the lists and the note of them.
                for path, size in zip((self._starts, self._blocks), needed, strict=True):
                    with path.open("r+b") as stream:
                        stream.truncate(size)
                self._begin, self._lines, self._sha256 = at, lines, Sha256(state)
                self._report.resumed_bytes += at
                self._progress.advance(at)
                return
        for path in (self._starts, self._blocks):
            path.write_bytes(b"")

    def _note(self, builder: OffsetBuilder, blocks: bytearray, at: int) -> None:
        builder.refuse_dense()
        self._append(builder, blocks)
        told = {"at": at, "lines": self._lines, "sha256": self._sha256.save().hex()}
        temporary = self._state.with_suffix(".part")
        temporary.write_bytes(orjson.dumps(told))
        temporary.replace(self._state)

    def _append(self, builder: OffsetBuilder, blocks: bytearray) -> None:
        starts = builder.take()
        for path, data in ((self._starts, starts.astype("<u8").tobytes()), (self._blocks, bytes(blocks))):
            with path.open("ab") as stream:
                stream.write(data)
        self._lines += len(starts)
        blocks.clear()

    def _forget(self) -> None:
        for path in (self._state, self._starts, self._blocks):
            Path(path).unlink(missing_ok=True)
