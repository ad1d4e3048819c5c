"""Is a backup still what was written: every byte of it is read and compared again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from portal.errors import DataFault, FileMissing, IntegrityError, NotFound, PortalError
from portal.exchange.backup.document import Listing, Manifest, ReadDocument, read_document
from portal.exchange.backup.listings import read_listing
from portal.exchange.backup.places import DOCUMENTS, KEYS, BackupPlace, checked
from portal.exchange.digests import PublishProgress
from portal.signing.keys import PublicKey
from portal.storage.blobs import is_name
from portal.storage.hashing import hash_file

AT_ONCE = 4
BAD = (DataFault, FileMissing, IntegrityError)


@dataclass
class VerifiedBackups:
    """What verification found."""

    backups: list[str] = field(default_factory=list)
    """Those that are whole."""
    objects: int = 0
    bytes: int = 0
    faults: list[str] = field(default_factory=list)
    """A sentence for each thing that is wrong; each names its file."""
    signed_by: dict[str, str | None] = field(default_factory=dict)
    """Key ids by backup."""
    lost: dict[str, int] = field(default_factory=dict)
    """What could not be read when it was made, by backup; those without are left out."""


def verify_backups(
    place: BackupPlace,
    where: str,
    id: str = "",
    keys: Sequence[PublicKey] = (),
    progress: PublishProgress | None = None,
) -> VerifiedBackups:
    """Read everything at a place again, or the backup ``id`` alone. NotFound where there is none."""
    report = VerifiedBackups()
    ids = [id] if id else place.ids()
    if not ids:
        raise no_backups(where)
    seen: dict[str, PortalError | None] = {}
    if not id:
        # Also what no finished backup refers to: the next one would take it for good.
        _verify_held(place, report, seen, progress)
    for one in ids:
        try:
            document = open_document(place, one, keys)
        except PortalError as error:
            report.faults.append(error.message)
            continue
        good = _verify_one(place, document.manifest, report, seen)
        report.signed_by[one] = document.key.key_id if document.key else None
        if document.manifest.lost:
            report.lost[one] = len(document.manifest.lost)
        if good:
            report.backups.append(one)
    return report


def open_document(place: BackupPlace, id: str, keys: Sequence[PublicKey] = ()) -> ReadDocument:
    """A backup's document, checked; raises as `read_document`."""
    where = place.name(f"{DOCUMENTS}/{id}.json")
    document = read_document(place.read(id), where, keys)
    if document.manifest.id != id:
        raise IntegrityError(f"{where} is the document of another backup.", "Take another backup.")
    return document


def blobs_of(place: BackupPlace, listing: Listing) -> Iterator[tuple[str, int, int]]:
    """sha256, size and time of every blob; raises as `read_listing`."""
    for line in read_listing(place, listing):
        sha256, size, modified_ns = _three(line)
        if not is_name(sha256):
            raise DataFault("The list of blobs names something that is none.", "Take another backup.")
        yield sha256, int(size), int(modified_ns)


def files_of(place: BackupPlace, listing: Listing) -> Iterator[tuple[str, str, int]]:
    """Path, sha256 and size of every file; raises as `read_listing`."""
    for line in read_listing(place, listing):
        path, sha256, size = _three(line)
        if not is_name(sha256):
            raise DataFault("The list of files names something that is none.", "Take another backup.")
        yield path, sha256, int(size)


def check_listing(place: BackupPlace, listing: Listing) -> None:
    """Read a list to its end; raises as `read_listing`."""
    for _ in read_listing(place, listing):
        pass


def no_backups(where: str) -> NotFound:
    """The error of a place without backups."""
    return NotFound(f"There is no backup at {where}.", "Correct the place, or make one with `portal backup`.")


def _verify_held(
    place: BackupPlace,
    report: VerifiedBackups,
    seen: dict[str, PortalError | None],
    progress: PublishProgress | None,
) -> None:
    held = list(place.blobs.list_held())
    if progress:
        progress.begin("Reading again", sum(blob.size for blob in held))
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="backup") as pool:
        found = pool.map(partial(_look, place), [blob.sha256 for blob in held], [blob.size for blob in held])
        for blob, fault in zip(held, found, strict=True):
            seen[blob.sha256] = fault
            report.objects += 1
            report.bytes += blob.size
            if fault:
                _tell(report, fault)
            if progress:
                progress.advance(blob.size)


def _verify_one(
    place: BackupPlace, manifest: Manifest, report: VerifiedBackups, seen: dict[str, PortalError | None]
) -> bool:
    """Whether everything that one backup names is there and right."""
    good = [_right(report, partial(check_listing, place, part.rows)) for part in manifest.tables]
    blobs = ((sha256, size) for sha256, size, _ in blobs_of(place, manifest.blobs))
    files = ((sha256, size) for _, sha256, size in files_of(place, manifest.files))
    good += [_right(report, partial(_objects, place, named, report, seen)) for named in (blobs, files)]
    if manifest.signing_key:
        good.append(_right(report, partial(check_key, place, manifest)))
    return all(good)


def check_key(place: BackupPlace, manifest: Manifest) -> bytes:
    """The private key in a backup; IntegrityError, FileMissing."""
    pem = place.read_key(manifest.id)
    if hashlib.sha256(pem).hexdigest() != manifest.signing_key:
        raise IntegrityError(f"{place.name(f'{KEYS}/{manifest.id}.pem')} is damaged.", "Take another backup.")
    return pem


def _objects(
    place: BackupPlace,
    named: Iterator[tuple[str, int]],
    report: VerifiedBackups,
    seen: dict[str, PortalError | None],
) -> bool:
    good = True
    for sha256, size in named:
        if sha256 not in seen:
            seen[sha256] = _look(place, sha256, size)
            report.objects += 1
            report.bytes += size
        fault = seen[sha256]
        if fault:
            good = False
            _tell(report, fault)
    return good


def _right(report: VerifiedBackups, check: Callable[[], object]) -> bool:
    try:
        return check() is not False
    except BAD as error:
        _tell(report, error)
        return False


def _tell(report: VerifiedBackups, fault: PortalError) -> None:
    if fault.message not in report.faults:
        report.faults.append(fault.message)


def _three(line: bytes) -> list[Any]:
    values = orjson.loads(line)
    if not isinstance(values, list) or len(values) != 3:
        raise DataFault("A list of the backup is not understood.", "Take another backup.")
    return values


def _look(place: BackupPlace, sha256: str, size: int) -> PortalError | None:
    try:
        with place.copy(sha256, size) as path:
            checked(place, sha256, size, hash_file(path))
    except BAD as error:
        return error
    return None
