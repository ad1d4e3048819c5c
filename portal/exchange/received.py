"""Publish what was sent: a manifest and a table of its files, whose bytes are in the portal's own store by sha256.

It goes through the same door as a local folder: the same checks, numbers, line indexes, scan and record.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from sqlmodel import Session

from portal.catalog.published import find_published
from portal.catalog.referenced import keeping
from portal.database import Engine, open_session
from portal.errors import Fault, IntegrityError, ManifestRefused, MissingBlobs, TooLarge, VersionTaken
from portal.exchange.digests import Digested, HashingSettings, PublishProgress, compare_digests
from portal.exchange.discover import Discovery, discover
from portal.exchange.ingest import MAX_CONFIG_BYTES
from portal.exchange.journal import one_publisher
from portal.exchange.line_indexes import index_chunks
from portal.exchange.look_up import look_up
from portal.exchange.places import FoundFile, is_remote
from portal.exchange.publication import Accompany, Publication, PublishReport, organisation_of
from portal.exchange.publish import less_to_collect
from portal.exchange.received_places import ReceivedPlaces, Sent, faults_of_table
from portal.exchange.sign_release import Signature, check_signature, keep_signature
from portal.manifest import FileEntry, Manifest, checkpoints_of, chunks_of, orders_of, read_manifest
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.blobs import BlobStore, open_blobs
from portal.storage.hashing import FileDigest, hash_file

SOURCE = "The manifest"
ASKED_AT_ONCE = 16
"""Blobs that are looked for in parallel: each is a request where the store is a bucket."""
PIECE = 8 << 20


@dataclass(frozen=True)
class Terms:
    """What a publisher may ask for besides."""

    after: int | None = None
    """The version this one is to follow (0: none); None: the one that is current when the request comes."""
    signature: Signature | None = None
    accompany: Accompany | None = None
    """Records more in the transaction that makes the release visible."""
    allow: Callable[[str], object] | None = None
    """Told the run's name; what it raises ends the publication."""
    held: Callable[[], object] | None = None
    """Called once nobody else publishes the run on this machine; what it raises ends the publication."""
    progress: PublishProgress | None = None
    name: str = SOURCE
    """The manifest's file name, for faults and signatures."""
    any_bucket: bool = False
    """Whether it may name objects of buckets that are open to no publisher: where the portal itself wrote the manifest."""
    private: bool = False
    """Whether it is to be private whatever the manifest says."""
    private_to: str | None = None
    """To which organisation then, where it is not the run's own."""
    reason: str = ""
    """Why there is another version."""
    ask_hub: bool = False
    """Whether the Hub is asked for sizes and sha256 of files that lie there."""


@dataclass(frozen=True)
class CheckReport:
    """What publishing would need."""

    run: str | None
    version: int
    """Version that is current now; 0 where the run was never published."""
    files: int
    total_bytes: int
    missing: list[dict[str, Any]]
    """``{path, sha256, size}`` of each content that is not here yet."""
    missing_bytes: int


def publish_received(
    settings: Settings,
    engine: Engine,
    manifest: Mapping[str, Any] | str,
    files: Sent,
    by: str,
    terms: Terms | None = None,
) -> PublishReport:
    """Publish ``manifest`` (a mapping, or the text of the file) over ``files``: path to (sha256, size).

    ``by`` is remembered as who published. Raises ManifestRefused with every fault, MissingBlobs with every file whose
    bytes are not in the portal's store, VersionTaken where somebody else published the run meanwhile.
    """
    terms = terms or Terms()
    with less_to_collect(), ExitStack() as held:
        blobs = open_blobs(settings)
        read, places, found = _understand(settings, manifest, files, blobs, terms)
        if terms.after is None:
            terms = replace(terms, after=current_version(engine, read.run))
        signature = check_signature(terms.signature, read.run, _table(files), _text(manifest), terms.name)
        # From here on no blob that is found may go before the release refers to it.
        held.enter_context(keeping(engine, settings.data))
        digests = _digests(files, blobs, read.run)
        held.enter_context(one_publisher(settings.data / "publishing", read.run))
        if terms.held:
            terms.held()
        copies = held.enter_context(tempfile.TemporaryDirectory(prefix="portal-numbers-"))
        found = discover(read, places.copied(_copies(found, settings, Path(copies))))
        looked = look_up(found, settings, terms.ask_hub, terms.progress)
        job = Publication(read, looked.found, terms.name, settings, engine, terms.progress, by, terms.after)
        job.met, job.told = looked.findings, looked.told
        job.reason = terms.reason
        job.private_to = terms.private_to or (organisation_of(read) if terms.private else None)
        job.digested = _digested(job.found, digests)
        job.read_elsewhere().note(job.digested)
        job.refuse([*job.found.faults, *compare_digests(job.found, job.digested)])

        def accompany(session: Session, release_id: int, report: PublishReport) -> None:
            if signature:
                keep_signature(session, release_id, report.version, signature, by)
            if terms.accompany:
                terms.accompany(session, release_id, report)

        job.accompany = accompany
        return _publish(job)


def check_received(
    settings: Settings,
    engine: Engine,
    manifest: Mapping[str, Any] | str | None,
    files: Sent,
    terms: Terms | None = None,
) -> CheckReport:
    """What is still missing of a release; without a manifest the files alone are looked at. Nothing is changed."""
    blobs, run, terms = open_blobs(settings), None, terms or Terms()
    if manifest is None:
        _refuse([*faults_of_table(files)], terms.name)
    else:
        run = _understand(settings, manifest, files, blobs, terms)[0].run
    missing = _missing(files, blobs)
    sizes = dict(files.values())
    return CheckReport(
        run,
        current_version(engine, run) if run else 0,
        len(files),
        sum(sizes.values()),
        missing,
        sum(m["size"] for m in missing),
    )


def declared_files(manifest: str, name: str = SOURCE) -> dict[str, tuple[str, int]]:
    """The table of a manifest that tells sha256 and size of its files itself; those without are left out."""
    read = read_manifest(manifest.encode("utf-8", "surrogatepass"), name)
    entries = [(f, c.location) for c in checkpoints_of(read) for f in c.files]
    entries += [(f, None) for c in chunks_of(read) for f in c.files]
    entries += [(FileEntry(m.file, m.size, m.sha256), None) for m in read.metrics]
    entries += [(o.file, None) for o in orders_of(read) if o.file]
    return {
        f"{location}/{entry.path}" if location else entry.path: (entry.sha256, entry.size)
        for entry, location in entries
        if entry.sha256 is not None
        and entry.size is not None
        and not is_remote(location or "")
        and not is_remote(entry.path)
    }


def current_version(engine: Engine, run: str) -> int:
    """The version of a run that is current; 0 where it was never published."""
    with open_session(engine) as session:
        current = find_published(session, run)
    return current.version if current else 0


def _publish(job: Publication) -> PublishReport:
    job.look_up()
    fingerprint = job.fingerprint
    if not job.current or job.current.fingerprint != fingerprint:
        version = job.current.version if job.current else 0
        if job.after is not None and job.after != version:
            raise VersionTaken(job.manifest.run, version, job.after)
        settings = job.settings
        indexes = settings.data / "store" / "indexes"
        reading = HashingSettings(settings.hash_workers, indexes, job.progress, lambda uri: open_store(uri, settings))
        index_chunks(job.found, job.digested, reading)
        report = job.record(fingerprint, job.read_numbers())
        if report is not None:
            return report
        # Another machine published the same to the same database a moment ago.
        job.look_up()
    return job.unchanged(job.restore(), None)


def _understand(
    settings: Settings, manifest: Mapping[str, Any] | str, files: Sent, blobs: BlobStore, terms: Terms
) -> tuple[Manifest, ReceivedPlaces, Discovery]:
    """The manifest and its files, not looked for yet; ManifestRefused with every fault of both."""
    faults = list(faults_of_table(files))
    try:
        read = read_manifest(_text(manifest), terms.name)
    except ManifestRefused as refused:
        raise ManifestRefused(terms.name, [*refused.faults, *faults]) from None
    if terms.allow:
        terms.allow(read.run)
    _refuse(faults, terms.name)
    places = ReceivedPlaces(files, blobs)
    found = discover(read, places)
    spare = [
        Fault(f"files[{path!r}]", "is named nowhere in the manifest", "Name it there, or leave it out.")
        for path in sorted(set(files) - places.used)
    ]
    closed = () if terms.any_bucket else _buckets(found, blobs, files, settings)
    _refuse([*found.faults, *spare, *closed], terms.name)
    total = sum(dict(files.values()).values())
    if settings.max_release_bytes and total > settings.max_release_bytes:
        raise TooLarge(
            f"The release has {total:,} bytes; this portal takes {settings.max_release_bytes:,} at most.",
            "Leave out what is not needed, or ask the portal's operator (PORTAL_MAX_RELEASE_BYTES).",
        )
    return read, places, found


def _buckets(found: Discovery, blobs: BlobStore, files: Sent, settings: Settings) -> Iterable[Fault]:
    """Objects that a publisher names but the operator did not open: the portal's keys may read more than is public."""
    allowed = {name.strip() for name in settings.s3_buckets.split(",") if name.strip()}
    own = {blobs.location(sha256) for sha256, _ in files.values()}
    named = [(f.uri, f.where) for f in found.files if f.uri not in own]
    named += [(entry.location, entry.where) for entry, held in found.checkpoints if entry.location and not held]
    for uri, where in named:
        bucket = uri.removeprefix("s3://").partition("/")[0]
        if uri.startswith("s3://") and bucket not in allowed:
            yield Fault(
                where,
                f"lies in bucket {bucket}, which this portal opens to no publisher",
                "Send the file, or ask the portal's operator to name the bucket in PORTAL_S3_BUCKETS.",
            )


def _missing(files: Sent, blobs: BlobStore) -> list[dict[str, Any]]:
    first = {sha256: path for path, (sha256, _) in reversed(list(files.items()))}
    sizes = {files[path] for path in first.values()} | set(files.values())
    with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="blobs") as pool:
        held = dict(zip(first, pool.map(blobs.has, first), strict=True))
    wrong = [
        Fault(
            f"files[{first[sha256]!r}]",
            f"has {size:,} bytes by the table; the bytes of this sha256 are {held[sha256]:,}",
            "Correct size or sha256.",
        )
        for sha256, size in sorted(sizes)
        if held[sha256] is not None and held[sha256] != size
    ]
    _refuse(wrong, SOURCE)
    return [
        {"path": path, "sha256": sha256, "size": size}
        for path, (sha256, size) in files.items()
        if held[sha256] is None and first[sha256] == path
    ]


def _digests(files: Sent, blobs: BlobStore, run: str) -> dict[str, FileDigest]:
    """Digests of every file's blocks, by sha256; MissingBlobs."""
    missing = _missing(files, blobs)
    if missing:
        raise MissingBlobs(run, missing)
    names = list({sha256 for sha256, _ in files.values()})
    with ThreadPoolExecutor(ASKED_AT_ONCE, thread_name_prefix="blobs") as pool:
        found = dict(zip(names, pool.map(blobs.digest, names), strict=True))
    gone = [{"sha256": name} for name in names if found[name] is None]
    if gone:
        raise MissingBlobs(run, gone)
    return {name: digest for name, digest in found.items() if digest}


def _digested(found: Discovery, digests: Mapping[str, FileDigest]) -> Digested:
    made = Digested()
    for file in found.files:
        digest = digests.get(file.uri.rpartition("/")[2])
        if digest is not None and file.sent:
            made.sha256[file.uri] = digest.sha256
            made.modified_ns[file.uri] = digest.modified_ns if file.is_local else None
    made.new = list(digests.values())
    made.bytes_reused = sum(digest.size for digest in digests.values())
    return made


def _copies(found: Discovery, settings: Settings, folder: Path) -> dict[str, Path]:
    """Metrics, evaluations and configs under their own names, which tell their format; by path."""
    numbers = [f for _, files in (*found.metrics, *found.evaluations) for f in files]
    numbers += [f for _, f in found.configs if f and (f.size or 0) <= MAX_CONFIG_BYTES]
    made: dict[str, Path] = {}
    for file in numbers:
        if not file.sent or file.path in made:
            continue
        place = folder / str(len(made)) / file.path.rpartition("/")[2]
        place.parent.mkdir()
        if file.is_local:
            place.symlink_to(_blob_of(file))
        else:
            _fetch(file, settings, place)
        made[file.path] = place
    return made


def _blob_of(file: FoundFile) -> Path:
    """Where a file of the portal's own folder lies."""
    path = replace(file, copy=None).local
    assert path is not None  # noqa: S101 - the caller asked whether it is local
    return path


def _fetch(file: FoundFile, settings: Settings, place: Path) -> None:
    store, size = open_store(file.uri, settings), file.size or 0
    with place.open("wb") as stream:
        for offset in range(0, size, PIECE):
            stream.write(store.read_range(file.uri, offset, min(PIECE, size - offset)))
    if hash_file(place).sha256 != file.uri.rpartition("/")[2]:
        raise IntegrityError(f"{file.path} came back from the portal's store with other bytes.", "Try again.")


def _table(files: Sent) -> dict[str, str]:
    return {path: sha256 for path, (sha256, _) in files.items()}


def _text(manifest: Mapping[str, Any] | str) -> bytes:
    if isinstance(manifest, str):
        return manifest.encode("utf-8", "surrogatepass")
    return orjson.dumps(manifest)


def _refuse(faults: Sequence[Fault], source: str) -> None:
    if faults:
        raise ManifestRefused(source, list(faults))
