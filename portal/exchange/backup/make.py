"""Make a backup while the portal serves and writes: the catalog as it is at one moment, then everything it refers to.

The catalog comes first and no blob is removed meanwhile, so whatever that moment's catalog names is still there when
its bytes are copied. What the place holds already is not copied again.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from portal import __version__
from portal.catalog.referenced import keeping, referenced
from portal.catalog.tables import Snapshot, snapshot
from portal.database import Engine, known_revisions, open_session
from portal.errors import FileMissing, IntegrityError, PortalError, StorageFull, UsageError
from portal.exchange.backup.document import Contents, Listing, Lost, Manifest, TablePart, write_document
from portal.exchange.backup.listings import write_listing
from portal.exchange.backup.own_places import OwnPlaces
from portal.exchange.backup.places import BackupPlace, new_id, open_place
from portal.exchange.digests import PublishProgress
from portal.settings import Settings
from portal.signing.keys import load_key
from portal.storage import open_remote
from portal.storage.blobs import BlobStore, HeldBlob, open_blobs
from portal.storage.hashing import FileDigest, hash_file

KEPT = ("store/metrics", "store/indexes", "store/small-files", "store/hub-trees")
"""Folders below PORTAL_DATA that the portal cannot make anew without its sources; the others are caches and journals."""
LAST = "last-backup.json"
AT_ONCE = 4
TRIES = 3


@dataclass(kw_only=True)
class BackupReport(Contents):
    """What a backup holds, and what it took."""

    where: str
    copied: int = 0
    """Objects that were not there before, of whatever kind."""
    copied_bytes: int = 0


@dataclass(frozen=True)
class Wanted:
    """What was asked for."""

    signing_key: bool = False
    """Whether the portal's private key is put in, too."""
    progress: PublishProgress | None = None


def make_backup(engine: Engine, settings: Settings, where: str, wanted: Wanted | None = None) -> BackupReport:
    """Put everything into ``where``; see `portal.exchange.backup.places`.

    Raises Conflict where another backup is being made there, IntegrityError for a damaged embedded database, and what
    the place says when it cannot be written. A file that cannot be read is in ``lost``; everything else is there then.
    """
    wanted, began = wanted or Wanted(), time.monotonic()
    key = load_key(settings.signing_key) if settings.signing_key else None
    if wanted.signing_key and key is None:
        raise UsageError("There is no private key to keep.", "Leave --with-signing-key out, or set PORTAL_SIGNING_KEY.")
    made_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    place = open_place(where, settings)
    with place.writing(), keeping(engine, settings.data):
        job = _Backup(engine, settings, place, wanted, BackupReport(id=new_id(made_at), where=where))
        manifest = job.run(made_at)
        place.write(manifest.id, write_document(manifest, key))
    report = job.report
    report.signed_by = key.public.key_id if key else None
    report.seconds = round(time.monotonic() - began, 3)
    _note(settings, report, made_at)
    return report


class _Backup:
    """One backup on its way."""

    def __init__(
        self, engine: Engine, settings: Settings, place: BackupPlace, wanted: Wanted, report: BackupReport
    ) -> None:
        self._engine, self._settings, self._place = engine, settings, place
        self._wanted, self.report = wanted, report
        self._held = {blob.sha256: blob.size for blob in place.blobs.list_held()}
        """What the place held before."""
        self._own = OwnPlaces.of(open_blobs(settings))
        self._counting = threading.Lock()

    def run(self, made_at: str) -> Manifest:
        """Copy everything; what the document is to say."""
        report = self.report
        with snapshot(self._engine) as seen:
            self._begin("Catalog")
            tables = tuple(self._table(seen, number) for number in range(len(seen.tables)))
            report.schema = seen.revision
        report.elsewhere = self._own.elsewhere
        blobs = self._blobs()
        files = self._files()
        return Manifest(
            id=report.id,
            made_at=made_at,
            portal=__version__,
            schema=report.schema,
            database=self._engine.dialect.name,
            tables=tables,
            blobs=blobs,
            blob_bytes=report.blob_bytes,
            files=files,
            file_bytes=report.file_bytes,
            elsewhere=report.elsewhere,
            lost=tuple(report.lost),
            signing_key=self._key(),
        )

    def _table(self, seen: Snapshot, number: int) -> TablePart:
        table = seen.tables[number]
        rows = self._listing(seen.lines(table, self._own.portable))
        self.report.tables[table.name] = rows.lines
        return TablePart(table, seen.next_id(table), rows)

    def _blobs(self) -> Listing:
        store = open_blobs(self._settings)
        held = sorted(store.list_held(), key=lambda blob: blob.sha256)
        self._begin("Own store", sum(blob.size for blob in held))
        there = {blob.sha256 for blob in held}
        for sha256 in sorted(self._needed(self._own.named - there)):
            self._lose(sha256, "A release refers to it, and it is not in the portal's store.")
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="backup") as pool:
            good = list(pool.map(lambda blob: self._blob(store, blob), held))
        lines = (
            orjson.dumps([blob.sha256, blob.size, blob.modified_ns], option=orjson.OPT_APPEND_NEWLINE)
            for blob, fine in zip(held, good, strict=True)
            if fine
        )
        listing = self._listing(lines)
        self.report.blobs = listing.lines
        self.report.blob_bytes = sum(blob.size for blob, fine in zip(held, good, strict=True) if fine)
        return listing

    def _needed(self, gone: set[str]) -> set[str]:
        """Of blobs that places name and that are not here: those that should be, not those of purged releases."""
        if not gone or self.report.schema != known_revisions()[0]:
            return gone
        with open_session(self._engine) as session:
            return referenced(session, gone)

    def _blob(self, store: BlobStore, blob: HeldBlob) -> bool:
        """Whether it is in the backup now."""
        try:
            if self._lacks(blob.sha256, blob.size):
                with self._source(store, blob) as path:
                    self._put(path, blob.sha256, blob.size)
        except (IntegrityError, FileMissing) as error:
            if not isinstance(error, FileMissing) or blob.sha256 in self._own.named:
                self._lose(blob.sha256, error.message)
            # Else it was gone before it was copied, and nothing had referred to it.
            return False
        if self._wanted.progress:
            self._wanted.progress.advance(blob.size)
        return True

    def _files(self) -> Listing:
        found = sorted(_kept_files(self._settings.data))
        self._begin("Metrics and indexes", sum(size for _, size in found))
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="backup") as pool:
            digests = pool.map(self._file, (path for path, _ in found))
            good = [(path, digest) for (path, _), digest in zip(found, digests, strict=True) if digest]
        self.report.file_bytes = sum(digest.size for _, digest in good)
        listing = self._listing(
            orjson.dumps([path, digest.sha256, digest.size], option=orjson.OPT_APPEND_NEWLINE) for path, digest in good
        )
        self.report.files = listing.lines
        return listing

    def _file(self, path: str) -> FileDigest | None:
        for attempt in range(TRIES):
            try:
                digest = hash_file(self._settings.data / path)
                if self._lacks(digest.sha256, digest.size):
                    self._put(self._settings.data / path, digest.sha256, digest.size)
                if self._wanted.progress:
                    self._wanted.progress.advance(digest.size)
                return digest
            except StorageFull:
                raise
            except PortalError as error:
                # Something is being published right now: what this backup's catalog names was whole before.
                if attempt + 1 == TRIES:
                    self._lose(path, error.message)
                time.sleep(0.05)
        return None

    def _key(self) -> str:
        if not self._wanted.signing_key or self._settings.signing_key is None:
            return ""
        path = self._settings.signing_key
        self._place.write_key(self.report.id, path.read_bytes())
        return hash_file(path).sha256

    def _listing(self, lines: Iterable[bytes]) -> Listing:
        listing = write_listing(self._place, lines)
        for piece in listing.pieces:
            self._count(piece.sha256, piece.size)
        return listing

    def _lacks(self, sha256: str, size: int) -> bool:
        held = self._held.get(sha256)
        if held is not None and held != size:
            # Cut short by a failing disk: it is put there anew.
            self._place.blobs.remove(sha256)
            del self._held[sha256]
        return held != size

    def _put(self, path: Path, sha256: str, size: int) -> None:
        self._place.blobs.put_file(path, sha256)
        self._count(sha256, size)

    def _count(self, sha256: str, size: int) -> None:
        with self._counting:
            if sha256 not in self._held:
                self._held[sha256] = size
                self.report.copied += 1
                self.report.copied_bytes += size

    def _source(self, store: BlobStore, blob: HeldBlob) -> AbstractContextManager[Path]:
        local = self._own.path(blob.sha256)
        return nullcontext(local) if local else _fetched(store.location(blob.sha256), blob.size, self._settings)

    def _lose(self, what: str, why: str) -> None:
        self.report.lost.append(Lost(what, why))

    def _begin(self, phase: str, size: int = 0) -> None:
        if self._wanted.progress:
            self._wanted.progress.begin(phase, size)


def last_backup(settings: Settings) -> dict[str, object] | None:
    """What the last backup made from this folder was: ``id``, ``where`` and ``made_at``; None where there was none."""
    try:
        found = json.loads((settings.data / LAST).read_bytes())
        return found if isinstance(found, dict) else None
    except (OSError, ValueError):
        return None


@contextmanager
def _fetched(uri: str, size: int, settings: Settings) -> Iterator[Path]:
    from portal.exchange.backup.buckets import fetch  # noqa: PLC0415 - only where the own store is a bucket

    with tempfile.TemporaryDirectory(prefix="portal-backup-") as folder:
        path = Path(folder) / "blob"
        fetch(open_remote(uri, settings), uri, size, path)
        yield path


def _kept_files(data: Path) -> Iterator[tuple[str, int]]:
    """Path below PORTAL_DATA and size of every file that is kept; names that begin with a dot are on their way."""
    for folder in KEPT:
        for base, folders, names in os.walk(data / folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(base) / name
                if not name.startswith(".") and path.is_file() and not path.is_symlink():
                    yield path.relative_to(data).as_posix(), path.stat().st_size


def _note(settings: Settings, report: BackupReport, made_at: str) -> None:
    """Remember it for `portal doctor`."""
    told = {"id": report.id, "where": report.where, "made_at": made_at, "lost": len(report.lost)}
    path = settings.data / LAST
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(told) + "\n")
    os.replace(partial, path)
