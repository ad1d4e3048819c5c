"""Hash what has to be hashed: files unchanged since the last publication or before a kill are not read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from portal.catalog.published import KnownFile
from portal.catalog.recorded import RecordedFile
from portal.errors import Fault, PortalError, TooLarge
from portal.exchange.discover import Discovery
from portal.exchange.journal import Journal
from portal.exchange.places import FoundFile
from portal.storage import LocalStore, Store
from portal.storage.hashing import FileDigest, HashJob, hash_files
from portal.tokens.readers.lines import OffsetBuilder, index_path, save_index


class PublishProgress(Protocol):
    """What a caller is told while a run is published; `advance` comes from several threads."""

    def begin(self, phase: str, total_bytes: int) -> None:
        """A phase starts; ``total_bytes`` is 0 where its length is not known."""

    def advance(self, count: int) -> None:
        """Bytes just done in this phase."""


@dataclass
class Digested:
    """sha256 of every file whose bytes were read here (local, or uploaded) by URI, and what it took."""

    sha256: dict[str, str] = field(default_factory=dict)
    modified_ns: dict[str, int | None] = field(default_factory=dict)
    new: list[FileDigest] = field(default_factory=list)
    """Hashed by this publication (now, or before it was killed)."""
    bytes_hashed: int = 0
    bytes_reused: int = 0
    faults: list[Fault] = field(default_factory=list)

    def recorded(self, file: FoundFile) -> RecordedFile:
        """The file as the catalog keeps it."""
        if file.uri not in self.sha256:
            state = "missing" if file.absent else "unverified"
            return RecordedFile(file.path, file.uri, file.role, file.size, file.sha256, None, state)
        return RecordedFile(
            file.path, file.uri, file.role, file.size, self.sha256[file.uri], self.modified_ns[file.uri], "verified"
        )


def plan_hashing(
    found: Discovery, known: Mapping[str, KnownFile], journal: Journal
) -> tuple[Digested, dict[str, FoundFile]]:
    """Split local files into those whose digest is known and those to be hashed (by URI)."""
    digested, waiting = Digested(), {}
    for file in found.files:
        if not file.is_local or file.uri in digested.sha256:
            continue
        kept = known.get(file.uri)
        written = journal.find(file.uri, file.size, file.modified_ns)
        if (
            kept
            and kept.sha256
            and kept.state == "verified"
            and (kept.size, kept.modified_ns) == (file.size, file.modified_ns)
        ):
            digested.sha256[file.uri] = kept.sha256
        elif written:
            digested.sha256[file.uri] = written.sha256
            digested.new.append(written)
        else:
            waiting[file.uri] = file
            continue
        digested.modified_ns[file.uri] = file.modified_ns
        digested.bytes_reused += file.size or 0
    return digested, waiting


def hash_waiting(
    digested: Digested, waiting: Mapping[str, FoundFile], found: Discovery, journal: Journal, to: HashingSettings
) -> None:
    """Hash what waits, in parallel, and count the lines of jsonl chunks in the same read."""
    lines = {
        f.uri: OffsetBuilder()
        for chunk, files in found.chunks
        for f in files
        if to.lines and chunk.format == "jsonl" and not f.path.endswith((".gz", ".zst"))
    }
    jobs = [
        HashJob(uri, path, f.size or 0, (lines[uri],) if uri in lines else ())
        for uri, f in waiting.items()
        if (path := f.local)
    ]
    if to.progress and jobs:
        to.progress.begin(f"Hashing {len(jobs):,} files", sum(job.size for job in jobs))
    advance = to.progress.advance if to.progress else None
    for job, digest in hash_files(jobs, to.workers, advance):
        file = waiting[job.key]
        if isinstance(digest, PortalError):
            digested.faults.append(Fault(file.where, f"{file.path}: {digest.message.rstrip('.')}", digest.remedy))
            continue
        if (digest.size, digest.modified_ns) != (file.size, file.modified_ns):
            what = f"{file.path} changed while the run was published"
            digested.faults.append(Fault(file.where, what, "Publish when nothing writes to it any more."))
            continue
        if job.key in lines:
            with suppress(TooLarge):
                # The scan says so of the chunk; the rest of the run is published all the same.
                save_index(index_path(to.indexes, digest.sha256), lines[job.key].finish())
        # The index comes first: a file in the journal is never read again.
        journal.add(job.key, digest)
        digested.sha256[job.key] = digest.sha256
        digested.modified_ns[job.key] = digest.modified_ns
        digested.new.append(digest)
        digested.bytes_hashed += digest.size


@dataclass(frozen=True)
class HashingSettings:
    """How to hash and whom to tell."""

    workers: int
    indexes: Path
    progress: PublishProgress | None = None
    open: Callable[[str], Store] = lambda _uri: LocalStore()
    """The store of a file by its URI."""
    lines: bool = True
    """Whether the lines of jsonl chunks are counted in the same read."""


def compare_digests(found: Discovery, digested: Digested) -> list[Fault]:
    """Files whose sha256 is not the one the manifest declares."""
    return [
        Fault(
            file.where,
            f"{file.path} has sha256 {digested.sha256[file.uri]}; the manifest says {file.sha256}",
            "Publish the file that was meant, or correct its sha256.",
        )
        for file in found.files
        if file.sha256 and file.uri in digested.sha256 and file.sha256 != digested.sha256[file.uri]
    ]
