"""Publish a release: read its manifest, look at every file, hash, and record it in one transaction."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from portal.catalog.answers import FoundFinding
from portal.catalog.published import KnownFile, Published, find_published, known_files
from portal.catalog.record import record_findings, record_release, record_verified, recording
from portal.catalog.recorded import ReleaseRecord
from portal.database import Engine, open_session
from portal.errors import Fault, ManifestRefused
from portal.exchange.assemble import assemble_release, fingerprint_of
from portal.exchange.digests import (
    Digested,
    HashingSettings,
    PublishProgress,
    compare_digests,
    hash_waiting,
    plan_hashing,
)
from portal.exchange.discover import Discovery, discover
from portal.exchange.ingest import Numbers, ingest
from portal.exchange.journal import Journal, journal_path, one_publisher
from portal.exchange.line_indexes import index_chunks
from portal.exchange.numbers import NumbersFolder
from portal.manifest import Manifest, read_manifest_file
from portal.manifest.read import find_manifest
from portal.scan import scan_release
from portal.settings import Settings

__all__ = ["PublishProgress", "PublishReport", "publish"]


@dataclass(frozen=True)
class PublishReport:
    """What a publication did, or would do."""

    run: str
    version: int
    """Version that is current now; of a dry run, the version it would get."""
    state: str
    """``published``, ``unchanged`` or ``dry-run``."""
    checkpoints: int
    chunks: int
    files: int
    bytes_hashed: int
    bytes_reused: int
    series: int
    points: int
    findings: list[FoundFinding] = field(default_factory=list)
    plan: list[str] = field(default_factory=list)
    """What was, or would be, done, one sentence each."""
    seconds: float = 0.0


@dataclass
class _Publication:
    """One publication on its way: what is known so far."""

    manifest: Manifest
    found: Discovery
    source: str
    settings: Settings
    engine: Engine
    progress: PublishProgress | None
    current: Published | None = None
    known: dict[str, KnownFile] = field(default_factory=dict)
    digested: Digested = field(default_factory=Digested)

    def refuse(self, faults: Sequence[Fault]) -> None:
        """Raise ManifestRefused when there is any fault."""
        if faults:
            raise ManifestRefused(self.source, list(faults))

    def numbers_folder(self, fingerprint: str) -> NumbersFolder:
        """Where the series of this content lie."""
        return NumbersFolder.of(self.settings.data, self.manifest.run, fingerprint)

    def begin(self, phase: str) -> None:
        """Tell that a phase without a known length starts."""
        if self.progress:
            self.progress.begin(phase, 0)


def publish(
    source: Path,
    settings: Settings,
    engine: Engine,
    dry_run: bool = False,
    progress: PublishProgress | None = None,
    run: str | None = None,
) -> PublishReport:
    """Publish the release that ``source`` (a folder or a manifest file) describes, under ``run`` when given.

    Files stay where they are; their digests, the numbers and what a scan finds become visible in one
    transaction. The same manifest over the same bytes again is ``unchanged``; anything else is a new
    version. With ``dry_run`` nothing is hashed or written. Raises ManifestRefused with every fault.
    """
    started = time.perf_counter()
    with _less_to_collect():
        path = find_manifest(source)
        manifest = read_manifest_file(path, settings.max_manifest_bytes, run)
        found = discover(manifest, path.absolute().parent)
        job = _Publication(manifest, found, str(source), settings, engine, progress)
        job.refuse(found.faults)
        if dry_run:
            return _plan(job, started)
        folder = settings.data / "publishing"
        with one_publisher(folder, manifest.run), Journal(journal_path(folder, manifest.run)) as journal:
            return _publish(job, journal, started)


@contextmanager
def _less_to_collect() -> Iterator[None]:
    """Spare the garbage collector everything that was there before.

    A run is thousands of objects that all live to the end, so the collector would visit every module of
    the process several times to free nothing: a quarter of the time besides hashing.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _plan(job: _Publication, started: float) -> PublishReport:
    _look_up(job)
    journal = Journal(journal_path(job.settings.data / "publishing", job.manifest.run))
    job.digested, waiting = plan_hashing(job.found, job.known, journal)
    numbers = ingest(job.manifest, job.found)
    job.refuse([*compare_digests(job.found, job.digested), *numbers.faults])
    version = (job.current.version if job.current else 0) + 1
    total = sum(f.size or 0 for f in waiting.values())
    remote = sum(1 for f in job.found.files if not f.is_local)
    plan = [
        f"Publish {job.manifest.run} as version {version}"
        + (f"; version {job.current.version} stays in the catalog." if job.current else "."),
        f"Hash {len(waiting):,} files ({total:,} bytes); {len(job.digested.sha256):,} are unchanged since they were hashed.",
        f"Record {len(job.found.checkpoints):,} checkpoints, {len(job.found.chunks):,} chunks and {len(job.found.files):,} files.",
    ]
    if remote:
        plan.append(f"Record {remote:,} files that lie elsewhere by their address, unverified.")
    if not waiting and job.current and fingerprint_of(job.manifest, job.found, job.digested) == job.current.fingerprint:
        plan = [
            f"Nothing: version {job.current.version} of {job.manifest.run} is the same manifest over the same files."
        ]
        version = job.current.version
        if job.numbers_folder(job.current.fingerprint).lacks(job.current):
            plan.append("Its metrics are not in this portal's folder; they would be read and stored.")
    return _report(job, "dry-run", version, numbers.findings, plan, started, numbers)


def _publish(job: _Publication, journal: Journal, started: float) -> PublishReport:
    _look_up(job)
    job.digested, waiting = plan_hashing(job.found, job.known, journal)
    hashing = HashingSettings(job.settings.hash_workers, job.settings.data / "store" / "indexes", job.progress)
    hash_waiting(job.digested, waiting, job.found, journal, hashing)
    job.refuse([*job.digested.faults, *compare_digests(job.found, job.digested)])
    fingerprint = fingerprint_of(job.manifest, job.found, job.digested)
    if job.current and job.current.fingerprint == fingerprint:
        return _keep(job, journal, started)
    index_chunks(job.found, job.digested, hashing)
    job.begin("Reading metrics and evaluations")
    numbers = ingest(job.manifest, job.found)
    job.refuse(numbers.faults)
    job.begin("Recording")
    recorded = _record(job, fingerprint, numbers)
    if recorded is None:
        # Another machine published the same bytes to the same database a moment ago; its numbers are stored here too.
        _look_up(job)
        return _keep(job, journal, started)
    version, findings = recorded
    journal.remove()
    done = f"Published {job.manifest.run} as version {version}."
    return _report(job, "published", version, findings, [done], started, numbers)


def _look_up(job: _Publication) -> None:
    with open_session(job.engine) as session:
        job.current = find_published(session, job.manifest.run)
        job.known = known_files(session, job.current.release_id) if job.current else {}


def _keep(job: _Publication, journal: Journal, started: float) -> PublishReport:
    """Nothing changed; files that had to be hashed again (touched, restored) are noted as good."""
    assert job.current is not None  # noqa: S101 - the caller compared its fingerprint
    again = {
        job.known[uri].location_id: modified
        for uri, modified in job.digested.modified_ns.items()
        if uri in job.known and (job.known[uri].state, job.known[uri].modified_ns) != ("verified", modified)
    }
    if again:
        with recording(job.engine) as session:
            record_verified(session, job.current.release_id, again)
    same = f"version {job.current.version} of {job.manifest.run} is the same manifest over the same files."
    plan = [f"Nothing to record: {same}", restored] if (restored := _restore(job)) else [f"Nothing to do: {same}"]
    journal.remove()
    return _report(job, "unchanged", job.current.version, [], plan, started)


def _restore(job: _Publication) -> str | None:
    """Read the numbers of the current version again where this portal's folder does not hold them."""
    current = job.current
    if current is None or not job.numbers_folder(current.fingerprint).lacks(current):
        return None
    job.begin("Reading metrics and evaluations")
    numbers = ingest(job.manifest, job.found)
    job.refuse(numbers.faults)
    return job.numbers_folder(current.fingerprint).restore(numbers, current)


def _record(job: _Publication, fingerprint: str, numbers: Numbers) -> tuple[int, list[FoundFinding]] | None:
    folder = job.numbers_folder(fingerprint)
    # An earlier version of the same content may own the folder already; then its numbers are the same.
    existed = folder.exists()
    try:
        stored = folder.write(numbers)
        record = assemble_release(job.manifest, job.found, job.digested, numbers, stored, job.settings)
        return _commit(job, record, numbers)
    except BaseException:
        if not existed:
            folder.remove()
        raise


def _commit(job: _Publication, record: ReleaseRecord, numbers: Numbers) -> tuple[int, list[FoundFinding]] | None:
    """Version and findings; None when the catalog holds this content already."""
    with recording(job.engine) as session:
        recorded = record_release(session, record)
        if recorded is None:
            return None
        release_id, version = recorded
        findings = scan_release(session, job.settings, release_id)
        record_findings(session, release_id, findings, met=numbers.findings)
    return version, [*findings, *numbers.findings]


def _report(  # noqa: PLR0913 - the report's own parts
    job: _Publication,
    state: str,
    version: int,
    findings: list[FoundFinding],
    plan: list[str],
    started: float,
    numbers: Numbers | None = None,
) -> PublishReport:
    current = job.current
    return PublishReport(
        run=job.manifest.run,
        version=version,
        state=state,
        checkpoints=sum(1 for entry, _ in job.found.checkpoints if not entry.missing),
        chunks=len(job.found.chunks),
        files=len(job.found.files),
        bytes_hashed=job.digested.bytes_hashed,
        bytes_reused=job.digested.bytes_reused,
        series=len(numbers.series) if numbers else current.series if current else 0,
        points=sum(len(s.steps) for s in numbers.series) if numbers else current.points if current else 0,
        findings=findings,
        plan=plan,
        seconds=time.perf_counter() - started,
    )
