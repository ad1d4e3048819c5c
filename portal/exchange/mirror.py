"""Copy released files from where they lie elsewhere into the portal's own store: by range, hashed, resumable.

What arrives with another sha256 than was published is refused and becomes a finding. Of a file whose sha256 nobody
published the portal takes its own, and keeps it as what it verified itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from portal.catalog.checkpoints import find_checkpoint
from portal.catalog.checks import CheckedFile, list_due, record_checks
from portal.catalog.data import find_chunk
from portal.catalog.facts import ReleaseFacts
from portal.catalog.files import FilePlace, FileRow
from portal.catalog.mirrored import Copy, list_released, record_copies
from portal.catalog.referenced import keeping
from portal.catalog.release import load_facts
from portal.database import Engine, open_session
from portal.errors import IntegrityError, PortalError, Unavailable, UsageError
from portal.exchange.copying import Source, open_source
from portal.settings import Settings
from portal.storage import REMOTE_SCHEMES, open_store
from portal.storage.blobs import BlobStore, open_blobs
from portal.storage.hashing import FileDigest, hash_file
from portal.storage.pace import Pace

ALL = "all"


class MirrorProgress(Protocol):
    """What a caller is told while files are copied."""

    def begin(self, phase: str, total_bytes: int) -> None:
        """A phase starts; ``total_bytes`` is 0 where its length is not known."""

    def advance(self, count: int) -> None:
        """Bytes just copied."""


@dataclass(frozen=True)
class Selection:
    """Which files are copied: those of some checkpoints and chunks, or of all with neither."""

    checkpoints: Sequence[str] = ()
    """Steps, ``first:last`` ranges of steps, labels, or ``all``."""
    chunks: Sequence[str] = ()
    """Names, or ``all``."""


@dataclass
class FilesReport:
    """What became of the files chosen, whatever was done with them."""

    run: str
    bytes: int = 0
    """Read by this call."""
    resumed_bytes: int = 0
    """Read before, by a call that was interrupted."""
    here: int = 0
    """Files that needed nothing: they, or what was wanted of them, are here already."""
    refused: list[str] = field(default_factory=list)
    """Files whose bytes are not what was published; each is a finding."""
    failed: list[str] = field(default_factory=list)
    """Files that could not be read, and why."""


@dataclass
class MirrorReport(FilesReport):
    """What became of files that were to be copied."""

    copied: int = 0
    identified: int = 0
    """Copied files whose sha256 nobody had published."""


def mirror_run(
    engine: Engine,
    settings: Settings,
    run: str,
    selection: Selection,
    progress: MirrorProgress,
    pace: Pace | None = None,
) -> MirrorReport:
    """Copy what is chosen and not here yet; each file is recorded as soon as it is whole.

    Raises RunNotFound, CheckpointNotFound or ChunkNotFound for names nobody has, UsageError for a range that is none.
    """
    with open_session(engine) as session:
        facts = load_facts(session, run)
        release_id, files = list_released(session, run)
        chosen = [f for f in files if _is_chosen(f, *_ids(facts, selection))]
    work = _Mirror(engine, settings, release_id, open_blobs(settings), progress, pace or Pace())
    report = MirrorReport(run)
    waiting = [f for f in chosen if not work.is_here(f)]
    report.here = len(chosen) - len(waiting)
    progress.begin("mirror", sum(f.size or 0 for f in waiting))
    for file in waiting:
        try:
            work.copy(file, report)
        except IntegrityError as error:
            work.refuse(file, error)
            report.refused.append(f"{file.path}: {error.message}")
        except PortalError as error:
            report.failed.append(f"{file.path}: {error.message}")
    return report


def _ids(facts: ReleaseFacts, selection: Selection) -> tuple[set[int] | None, set[int] | None]:
    """Ids of the checkpoints and chunks chosen; None for all of them."""
    if not selection.checkpoints and not selection.chunks:
        return None, None
    checkpoints: set[int] | None = set()
    for name in selection.checkpoints:
        checkpoints = None if name == ALL or checkpoints is None else checkpoints | _checkpoints(facts, name)
    chunks: set[int] | None = set()
    for name in selection.chunks:
        chunks = None if name == ALL or chunks is None else chunks | {find_chunk(facts, name).id}
    return checkpoints, chunks


def _checkpoints(facts: ReleaseFacts, name: str) -> set[int]:
    first, colon, last = name.partition(":")
    if colon and name not in facts.labels:
        if not (first.isdecimal() and last.isdecimal()) or int(first) > int(last):
            raise UsageError(f"{name!r} is no range of steps.", "Write first:last, e.g. 762:7620.")
        found = {c.id for c in facts.checkpoints if c.row.step is not None and int(first) <= c.row.step <= int(last)}
        if not found:
            raise UsageError(f"{facts.run} has no checkpoint at steps {first} to {last}.", "See its checkpoints.")
        return {key for key in found if key is not None}
    return {key for key in (find_checkpoint(facts, name).id,) if key is not None}


def _is_chosen(file: FileRow, checkpoints: set[int] | None, chunks: set[int] | None) -> bool:
    if file.checkpoint_id is not None:
        return checkpoints is None or file.checkpoint_id in checkpoints
    if file.chunk_id is not None:
        return chunks is None or file.chunk_id in chunks
    # Configs, tokenizer and order files are small beside either, and of use with both.
    return True


@dataclass
class _Mirror:
    engine: Engine
    settings: Settings
    release_id: int
    blobs: BlobStore
    progress: MirrorProgress
    pace: Pace

    def is_here(self, file: FileRow) -> bool:
        """Whether it needs no copy: on this machine, or recorded in the store."""
        if any(p.uri.startswith("file://") and p.state not in ("missing", "changed") for p in file.places):
            return True
        if not file.sha256:
            return False
        own = self.blobs.location(file.sha256)
        return any(p.uri == own and p.state != "missing" for p in file.places)

    def copy(self, file: FileRow, report: MirrorReport) -> None:
        """Fetch, verify, keep and record one file."""
        if file.sha256 and self._keep(file, file.sha256):
            return
        fetched = self._fetch_again(file, report)
        report.copied += 1
        report.bytes += fetched.size
        if not self._keep(file, fetched.sha256):
            raise Unavailable(f"{file.path} was removed from the store before it was recorded.", "Mirror it again.")

    def refuse(self, file: FileRow, error: IntegrityError) -> None:
        """Keep as a finding that the bytes elsewhere are not what was published."""
        places = {p.uri for p in self._places(file)[:1]}
        with open_session(self.engine) as session:
            due = [f for f in list_due(session, self.release_id) if f.uri in places]
            checked = [CheckedFile(f, "changed", 0, None, f"No copy was kept: {error.message}") for f in due]
            record_checks(session, self.release_id, checked)
            session.commit()

    def _fetch_again(self, file: FileRow, report: MirrorReport) -> FileDigest:
        try:
            return self._fetch(file, report)
        except IntegrityError:
            # A bit may flip on its way: the store is accused only when it sends the same twice.
            return self._fetch(file, report)

    def _fetch(self, file: FileRow, report: MirrorReport) -> FileDigest:
        source = open_source(file, self.settings, self.pace, self._places(file))
        if file.sha256 is None:
            return self._fetch_unnamed(source, report)
        upload = self.blobs.begin(file.sha256, source.size)
        start = upload.received
        report.resumed_bytes += start
        self.progress.advance(start)
        upload.write_at(start, self._told(source.pieces(start)))
        return upload.finish()

    def _fetch_unnamed(self, source: Source, report: MirrorReport) -> FileDigest:
        """A file of which nobody knows the sha256: it is kept under its own name until it is whole."""
        folder = self.settings.data / "store" / "mirror"
        folder.mkdir(parents=True, exist_ok=True)
        # Other bytes behind the same address are another copy, never the rest of this one.
        etag = open_store(source.uri, self.settings).stat(source.uri).etag
        name = hashlib.sha256(f"{source.uri}\0{source.size}\0{etag}".encode()).hexdigest()
        partial = folder / f"{name}.part"
        start = min(partial.stat().st_size, source.size) if partial.exists() else 0
        report.resumed_bytes += start
        self.progress.advance(start)
        with partial.open("ab") as stream:
            for data in self._told(source.pieces(start)):
                stream.write(data)
        digest = self._put(partial)
        report.identified += 1
        return digest

    def _put(self, partial: Path) -> FileDigest:
        found = hash_file(partial)
        kept = self.blobs.put_file(partial, found.sha256)
        partial.unlink()
        return kept

    def _keep(self, file: FileRow, sha256: str) -> bool:
        """Record the copy in the store; False where it holds none."""
        with keeping(self.engine, self.settings.data):
            digest = self.blobs.digest(sha256)
            if digest is not None:
                self._record(file, digest)
        return digest is not None

    def _record(self, file: FileRow, digest: FileDigest) -> None:
        uri = self.blobs.location(digest.sha256)
        modified = open_store(uri, self.settings).stat(uri).modified_ns if uri.startswith("file://") else None
        with open_session(self.engine) as session:
            record_copies(session, self.release_id, [Copy(file.id, uri, digest, modified)])
            session.commit()

    def _places(self, file: FileRow) -> list[FilePlace]:
        return [p for p in file.places if p.uri.partition("://")[0] in REMOTE_SCHEMES]

    def _told(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for data in pieces:
            self.progress.advance(len(data))
            yield data
