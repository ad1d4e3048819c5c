"""Put a backup back into an empty portal: on this database or the other kind, with its files in this portal's own store.

Lists are checked before anything is written; every file is compared with its sha256 as it is copied; rows are put in by
one transaction and read again before it is committed. What was killed on its way is gone on with by the same command.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path, PurePosixPath
from typing import TypeVar

from portal.catalog.loaded import Loading, check_empty, loading
from portal.database import Engine, known_revisions, migrate
from portal.errors import Conflict, DataFault, IntegrityError
from portal.exchange.backup.document import Contents, Manifest, TablePart
from portal.exchange.backup.listings import read_listing
from portal.exchange.backup.make import AT_ONCE, KEPT
from portal.exchange.backup.own_places import OwnPlaces
from portal.exchange.backup.places import OBJECTS, BackupPlace, checked, open_place
from portal.exchange.backup.verify import blobs_of, check_key, check_listing, files_of, no_backups, open_document
from portal.exchange.digests import PublishProgress
from portal.settings import Settings
from portal.signing.keys import PublicKey
from portal.storage.blobs import BlobStore, key_of, open_blobs
from portal.storage.hashing import hash_file
from portal.storage.room import check_disk
from portal.storage.staging import told_when_full
from portal.storage.whole import writing_whole

Thing = TypeVar("Thing")
Counted = tuple[int, int, int]
"""Things, their bytes, and how many of them were there already."""

MARK = "restoring.json"
KEY = "signing.key"


@dataclass(kw_only=True)
class RestoreReport(Contents):
    """What was put back."""

    made_at: str
    upgraded_to: str | None = None
    """The schema afterwards, where it was another one."""
    there: int = 0
    """Blobs that were there already: an earlier try had brought them."""
    signing_key: str | None = None
    """Where the private key lies now, where the backup held it."""


@dataclass(frozen=True)
class Chosen:
    """Which backup, and who must have signed it."""

    id: str = ""
    """Empty: the newest."""
    keys: Sequence[PublicKey] = ()
    progress: PublishProgress | None = None


def restore_backup(engine: Engine, settings: Settings, where: str, chosen: Chosen | None = None) -> RestoreReport:
    """Put a backup into the empty portal of ``settings``.

    Raises Conflict where that is not empty, NotFound, and IntegrityError, FileMissing or DataFault naming the file of
    the backup that is not what was written; nothing of the catalog is there then.
    """
    chosen, began = chosen or Chosen(), time.monotonic()
    place = open_place(where, settings)
    ids = place.ids()
    if not ids:
        raise no_backups(where)
    document = open_document(place, chosen.id or ids[-1], chosen.keys)
    manifest = document.manifest
    report = RestoreReport(
        id=manifest.id,
        made_at=manifest.made_at,
        schema=manifest.schema,
        elsewhere=manifest.elsewhere,
        lost=list(manifest.lost),
        signed_by=document.key.key_id if document.key else None,
    )
    if manifest.schema not in known_revisions():
        raise DataFault(
            f"The backup is of schema {manifest.schema}, which this version does not know.",
            "Restore it with the version of the portal that made it, or a newer one.",
        )
    check_empty(engine)
    with _marked(settings, manifest.id):
        _Restore(engine, settings, place, manifest, report, chosen.progress).run()
    report.seconds = round(time.monotonic() - began, 3)
    return report


class _Restore:
    """One restoration on its way."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        place: BackupPlace,
        manifest: Manifest,
        report: RestoreReport,
        progress: PublishProgress | None,
    ) -> None:
        self._engine, self._settings, self._place = engine, settings, place
        self._manifest, self._report, self._progress = manifest, report, progress
        self._blobs: BlobStore = open_blobs(settings)
        self._own = OwnPlaces.of(self._blobs)

    def run(self) -> None:
        """Everything, the catalog last."""
        manifest = self._manifest
        for part in manifest.tables:
            check_listing(self._place, part.rows)
        check_listing(self._place, manifest.blobs)
        for path, _, _ in files_of(self._place, manifest.files):
            _check_path(path)
        if not self._settings.storage_url.startswith("s3://"):
            check_disk(self._settings, manifest.blob_bytes + manifest.file_bytes)
        with told_when_full():
            self._copy_blobs()
            self._copy_files()
        self._load()
        migrate(self._engine)
        newest = known_revisions()[0]
        self._report.upgraded_to = newest if newest != manifest.schema else None
        if manifest.signing_key:
            self._report.signing_key = self._keep_key()

    def _copy_blobs(self) -> None:
        self._begin("Own store", self._manifest.blob_bytes)
        for count, size, there in self._each(self._blob, blobs_of(self._place, self._manifest.blobs)):
            self._report.blobs += count
            self._report.blob_bytes += size
            self._report.there += there

    def _blob(self, blob: tuple[str, int, int]) -> tuple[int, int, int]:
        sha256, size, modified_ns = blob
        there = self._blobs.has(sha256) == size
        with self._place.copy(sha256, size) as path, self._named(sha256):
            digest = self._blobs.put_file(path, sha256)
        checked(self._place, sha256, size, digest)
        local = self._own.path(sha256)
        if local:
            # Its time is part of what the catalog knows of it.
            os.utime(local, ns=(modified_ns, modified_ns))
        self._advance(size)
        return 1, size, int(there)

    def _copy_files(self) -> None:
        self._begin("Metrics and indexes", self._manifest.file_bytes)
        for count, size, _ in self._each(self._file, files_of(self._place, self._manifest.files)):
            self._report.files += count
            self._report.file_bytes += size

    def _file(self, file: tuple[str, str, int]) -> tuple[int, int, int]:
        path, sha256, size = file
        with writing_whole(self._settings.data / path, 0o644) as temporary:
            with self._place.copy(sha256, size) as source:
                shutil.copyfile(source, temporary)
            checked(self._place, sha256, size, hash_file(temporary))
        self._advance(size)
        return 1, size, 0

    def _load(self) -> None:
        self._begin("Catalog", 0)
        parts = {part.table.name: part for part in self._manifest.tables}
        with loading(self._engine, self._manifest.schema) as into:
            missing = sorted(set(into.tables) ^ set(parts))
            if missing:
                raise DataFault(f"The backup and its schema differ about table {missing[0]}.", "Take another backup.")
            for name in into.order:
                part = parts[name]
                self._report.tables[name] = into.load(part.table, read_listing(self._place, part.rows), self._own.here)
            for part in self._manifest.tables:
                self._compare(into, part)
                into.set_next_id(part.table, part.next_id)

    def _compare(self, into: Loading, part: TablePart) -> None:
        """Rows as they stand in the database now, with what the backup says of them."""
        whole, count = hashlib.sha256(), 0
        for line in into.lines(part.table, self._own.portable):
            whole.update(line)
            count += 1
        same = (count, whole.hexdigest()) == (part.rows.lines, part.rows.sha256)
        if not same and not self._same_but_zeros(into, part):
            raise IntegrityError(
                f"Table {part.table.name} has other rows in this database than in the backup "
                f"({count:,} instead of {part.rows.lines:,}, or other values). Nothing was kept.",
                "Restore into the kind of database it was made of; if it is that, report this.",
            )

    def _same_but_zeros(self, into: Loading, part: TablePart) -> bool:
        """Whether the rows differ in nothing but the sign of zeros, which SQLite does not keep."""
        if self._engine.dialect.name != "sqlite":
            return False
        pairs = zip_longest(read_listing(self._place, part.rows), into.lines(part.table, self._own.portable))
        return all(a is not None and a.replace(b'"-0.0"', b'"0.0"') == b for a, b in pairs)

    def _keep_key(self) -> str:
        path = self._settings.data / KEY
        pem = check_key(self._place, self._manifest)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o600)
            stream.write(pem)
        return str(path)

    @contextmanager
    def _named(self, sha256: str) -> Iterator[None]:
        """Bytes that are others are told by the file of the backup they came from."""
        try:
            yield
        except IntegrityError:
            raise IntegrityError(
                f"{self._place.name(f'{OBJECTS}/{key_of(sha256)}')} is damaged: its bytes are others.",
                "Take another backup.",
            ) from None

    def _each(self, work: Callable[[Thing], Counted], found: Iterator[Thing]) -> Iterator[Counted]:
        """``work`` over any number of things, a few at a time."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="restore") as pool:
            while batch := list(islice(found, 64)):
                yield from pool.map(work, batch)

    def _begin(self, phase: str, size: int) -> None:
        if self._progress:
            self._progress.begin(phase, size)

    def _advance(self, size: int) -> None:
        if self._progress:
            self._progress.advance(size)


@contextmanager
def _marked(settings: Settings, id: str) -> Iterator[None]:
    """Refuse a folder that is not empty, unless a restoration of the same backup ended early there."""
    mark = settings.data / MARK
    if not _ended_early(mark, id):
        _check_folder(settings)
        settings.data.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps({"id": id}) + "\n")
    yield
    mark.unlink()


def _ended_early(mark: Path, id: str) -> bool:
    try:
        return bool(json.loads(mark.read_bytes())["id"] == id)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_folder(settings: Settings) -> None:
    held = next(open_blobs(settings).list_held(), None)
    there = next((p for folder in KEPT for p in (settings.data / folder).rglob("*") if p.is_file()), None)
    if held or there:
        shown = there or f"its own store holds {held.sha256 if held else ''}"
        raise Conflict(
            f"The portal to restore into is not empty: {shown}. Nothing was changed.",
            "Name an empty folder (PORTAL_DATA) and an empty store (PORTAL_STORAGE_URL).",
        )


def _check_path(path: str) -> None:
    """DataFault for a path that a backup of ours never holds."""
    pure = PurePosixPath(path)
    inside = any(path.startswith(f"{folder}/") for folder in KEPT)
    if not inside or ".." in pure.parts or str(pure) != path or "\0" in path:
        raise DataFault(f"The backup names a file at {path[:200]!r}, where none belongs.", "Take another backup.")
