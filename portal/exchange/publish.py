"""Publish a release: read its manifest, look at every file, hash, and record it in one transaction."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from pathlib import Path

from sqlmodel import Session

from portal.catalog.record import record_verified
from portal.catalog.withdrawals import checked_reason
from portal.database import Engine
from portal.exchange.bundle.places import open_places
from portal.exchange.digests import HashingSettings, PublishProgress, compare_digests, hash_waiting, plan_hashing
from portal.exchange.discover import discover
from portal.exchange.ingest import ingest
from portal.exchange.journal import Journal, journal_path, one_publisher
from portal.exchange.line_indexes import index_chunks
from portal.exchange.look_up import look_up
from portal.exchange.publication import Publication, PublishReport, organisation_of
from portal.manifest import read_manifest_file
from portal.manifest.read import find_manifest
from portal.settings import Settings

__all__ = ["PublishProgress", "PublishReport", "publish"]


def publish(  # noqa: PLR0913 - the whole question in one call
    source: Path,
    settings: Settings,
    engine: Engine,
    dry_run: bool = False,
    progress: PublishProgress | None = None,
    run: str | None = None,
    ask_hub: bool = False,
    reason: str = "",
    private: bool = False,
) -> PublishReport:
    """Publish the release that ``source`` (a folder or a manifest file) describes, under ``run`` when given.

    Files stay where they are; their digests, the numbers and what a scan finds become visible in one
    transaction. The same manifest over the same bytes again is ``unchanged``; anything else is a new
    version. With ``dry_run`` nothing is hashed or written. With ``ask_hub`` the Hub is asked for what it states of
    the files that lie there; what it said once is known from then on. ``reason`` tells readers of the version before why
    there is another one; with ``private`` it is private from the first moment. Raises ManifestRefused with every fault,
    ReasonNeeded where published files would be replaced.
    """
    with less_to_collect():
        path = find_manifest(source)
        manifest = read_manifest_file(path, settings.max_manifest_bytes, run)
        found = discover(manifest, open_places(path.absolute().parent))
        looked = look_up(found, settings, ask_hub, progress)
        job = Publication(manifest, looked.found, str(source), settings, engine, progress, met=looked.findings)
        job.told = looked.told
        job.reason = checked_reason(reason) if reason else ""
        job.private_to = organisation_of(manifest) if private else None
        job.refuse(found.faults)
        if dry_run:
            report = _plan(job)
        else:
            folder = settings.data / "publishing"
            with one_publisher(folder, manifest.run), Journal(journal_path(folder, manifest.run)) as journal:
                report = _publish(job, journal)
        return report


@contextmanager
def less_to_collect() -> Iterator[None]:
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


def _plan(job: Publication) -> PublishReport:
    job.look_up()
    journal = Journal(journal_path(job.settings.data / "publishing", job.manifest.run))
    elsewhere = job.read_elsewhere(ask=False)
    job.digested, waiting = plan_hashing(job.found, job.known, journal)
    elsewhere.note(job.digested)
    numbers = ingest(job.manifest, job.found)
    job.refuse([*compare_digests(job.found, job.digested), *numbers.faults])
    version = (job.current.version if job.current else 0) + 1
    total = sum(f.size or 0 for f in waiting.values())
    remote = sum(1 for f in job.found.files if not f.is_local)
    plan = [
        f"Publish {job.manifest.run} as version {version}"
        + (f"; version {job.current.version} stays in the catalog." if job.current else "."),
        f"Hash {len(waiting):,} files ({total:,} bytes); {len(job.digested.sha256):,} are unchanged since they were hashed.",
        f"Record {_many(job.found.checkpoints, 'checkpoint')}, {_many(job.found.chunks, 'chunk')}"
        f" and {_many(job.found.files, 'file')}.",
    ]
    if elsewhere.waiting:
        plan.append(f"Read {elsewhere.waiting:,} small files elsewhere: numbers, configs, the tokenizer.")
    if remote:
        plan.append(f"Record {remote:,} files that lie elsewhere by their address, unverified.")
    foreseen = job.foresee()
    if foreseen.uncounted:
        what = f"chunk {foreseen.uncounted[0]}" + (
            f" and {len(foreseen.uncounted) - 1:,} more" if len(foreseen.uncounted) > 1 else ""
        )
        plan.append(f"Count the rows of {what} while hashing, and compare the data order with them then.")
    if not waiting and job.current and job.fingerprint == job.current.fingerprint:
        plan = [
            f"Nothing: version {job.current.version} of {job.manifest.run} is the same manifest over the same files."
        ]
        version = job.current.version
        if job.numbers_folder(job.current.fingerprint).lacks(job.current):
            plan.append("Its metrics are not in this portal's folder; they would be read and stored.")
    return job.report("dry-run", version, [*foreseen.findings, *numbers.findings], plan, numbers)


def _publish(job: Publication, journal: Journal) -> PublishReport:
    job.look_up()
    job.digested, waiting = plan_hashing(job.found, job.known, journal)
    hashing = HashingSettings(job.settings.hash_workers, job.settings.data / "store" / "indexes", job.progress)
    hash_waiting(job.digested, waiting, job.found, journal, hashing)
    job.read_elsewhere().note(job.digested)
    job.refuse([*job.digested.faults, *compare_digests(job.found, job.digested)])
    fingerprint = job.fingerprint
    report = None
    if not job.current or job.current.fingerprint != fingerprint:
        index_chunks(job.found, job.digested, hashing)
        report = job.record(fingerprint, job.read_numbers())
        if report is None:
            # Another machine published the same bytes to the same database a moment ago; its numbers are stored here too.
            job.look_up()
    report = report or _keep(job)
    journal.remove()
    return report


def _keep(job: Publication) -> PublishReport:
    """Nothing changed; files that had to be hashed again (touched, restored) are noted as good."""
    again = {
        job.known[uri].location_id: modified
        for uri, modified in job.digested.modified_ns.items()
        if uri in job.known and (job.known[uri].state, job.known[uri].modified_ns) != ("verified", modified)
    }

    def note(session: Session, release_id: int) -> None:
        record_verified(session, release_id, again)

    return job.unchanged(job.restore(), note if again else None)


def _many(things: Sized, word: str) -> str:
    return f"{len(things):,} {word}" if len(things) == 1 else f"{len(things):,} {word}s"
