"""Where backups lie: a folder, or a prefix of a bucket. Objects by sha256 that all of them share, and a document for each.

An object is never written over and is in its place whole or not at all; a document is written when everything it names
is there. So whatever kills a backup, those made before stay as they were, and the next one finds what was copied.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from portal.errors import Conflict, FileMissing, IntegrityError, NotFound, UsageError
from portal.settings import Settings
from portal.storage.blobs import BlobStore, blocks_key_of, key_of
from portal.storage.blobs_local import FolderBlobs
from portal.storage.hashing import FileDigest, hash_file
from portal.storage.staging import told_when_full
from portal.storage.whole import writing_whole

OBJECTS = "objects"
DOCUMENTS = "backups"
KEYS = "keys"
REMEDY = "Take another backup, or make a new one: it copies anew what is missing here."
ID = re.compile(r"\d{8}T\d{9}Z-[0-9a-f]{6}")


class BackupPlace(Protocol):
    """A place for backups."""

    blobs: BlobStore

    def ids(self) -> list[str]:
        """Every backup that was finished, the oldest first."""

    def read(self, id: str) -> bytes:
        """A backup's document; NotFound."""

    def write(self, id: str, data: bytes) -> None:
        """Put a document in its place: from now on this is a backup."""

    def forget(self, id: str) -> None:
        """Take a document away, and the key that is kept with it."""

    def name(self, key: str) -> str:
        """What lies under ``key``, as an operator finds it."""

    def copy(self, sha256: str, size: int) -> AbstractContextManager[Path]:
        """An object as a file of this machine, not looked at yet; FileMissing names it."""

    def blocks(self, sha256: str, size: int) -> bytes | None:
        """The digests of its blocks as they lie here; None where they do not."""

    def write_key(self, id: str, pem: bytes) -> None:
        """Keep a private key for its owner alone; UsageError where nothing can be kept so."""

    def read_key(self, id: str) -> bytes:
        """It; FileMissing."""

    def writing(self) -> AbstractContextManager[None]:
        """Hold the place while a backup is made; Conflict where another one is."""


def open_place(where: str, settings: Settings) -> BackupPlace:
    """The place ``where`` names: a folder, or ``s3://bucket/prefix``."""
    if where.startswith("s3://"):
        # Loaded only where backups lie in a bucket.
        from portal.exchange.backup.buckets import BucketPlace  # noqa: PLC0415

        return BucketPlace(where.rstrip("/"), settings)
    if "://" in where or not where:
        raise UsageError(f"{where[:200]!r} is no place for backups.", "Name a folder, or s3://bucket/prefix.")
    return _Folder(Path(where).absolute())


def checked(place: BackupPlace, sha256: str, size: int, found: FileDigest) -> None:
    """Compare an object that was read with what it is called; IntegrityError or FileMissing names the file."""
    if (found.sha256, found.size) != (sha256, size):
        raise IntegrityError(f"{place.name(f'{OBJECTS}/{key_of(sha256)}')} is damaged: its bytes are others.", REMEDY)
    beside = place.name(f"{OBJECTS}/{blocks_key_of(sha256)}")
    blocks = place.blocks(sha256, size)
    if blocks is None:
        raise FileMissing(f"{beside} is missing.", REMEDY)
    if blocks != found.blocks:
        raise IntegrityError(f"{beside} is damaged: its bytes are others.", REMEDY)


def read_object(place: BackupPlace, sha256: str, size: int) -> bytes:
    """A small object, checked."""
    with place.copy(sha256, size) as path:
        checked(place, sha256, size, hash_file(path))
        return path.read_bytes()


class _Folder:
    """Backups in a folder, which only its owner may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.blobs: BlobStore = FolderBlobs(folder / OBJECTS, folder / OBJECTS / "uploads")

    def ids(self) -> list[str]:
        """See `BackupPlace`."""
        found = (path.name.removesuffix(".json") for path in (self._folder / DOCUMENTS).glob("*.json"))
        return sorted(name for name in found if ID.fullmatch(name))

    def read(self, id: str) -> bytes:
        """See `BackupPlace`."""
        try:
            return self._document(id).read_bytes()
        except FileNotFoundError:
            raise no_backup(id, str(self._folder)) from None

    def write(self, id: str, data: bytes) -> None:
        """See `BackupPlace`."""
        _write_whole(self._document(id), data, 0o400)

    def forget(self, id: str) -> None:
        """See `BackupPlace`."""
        self._document(id).unlink(missing_ok=True)
        (self._folder / KEYS / f"{id}.pem").unlink(missing_ok=True)

    def name(self, key: str) -> str:
        """See `BackupPlace`."""
        return str(self._folder / key)

    @contextmanager
    def copy(self, sha256: str, size: int) -> Iterator[Path]:  # noqa: ARG002 - it lies here already
        """See `BackupPlace`."""
        path = self._folder / OBJECTS / key_of(sha256)
        if not path.is_file():
            raise FileMissing(f"{path} is missing.", REMEDY)
        yield path

    def blocks(self, sha256: str, size: int) -> bytes | None:  # noqa: ARG002 - a file knows its own
        """See `BackupPlace`."""
        with suppress(FileNotFoundError):
            return (self._folder / OBJECTS / blocks_key_of(sha256)).read_bytes()
        return None

    def write_key(self, id: str, pem: bytes) -> None:
        """See `BackupPlace`."""
        _write_whole(self._folder / KEYS / f"{id}.pem", pem, 0o400)

    def read_key(self, id: str) -> bytes:
        """See `BackupPlace`."""
        try:
            return (self._folder / KEYS / f"{id}.pem").read_bytes()
        except FileNotFoundError:
            raise FileMissing(f"{self._folder / KEYS / id}.pem is missing.", REMEDY) from None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See `BackupPlace`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Conflict(f"Another backup is being made in {self._folder}.", "Wait until it ends.") from None
            # What a killed backup was in the middle of; nobody else writes here now.
            shutil.rmtree(self._folder / OBJECTS / "incoming", ignore_errors=True)
            for left in [*(self._folder / DOCUMENTS).glob(".*"), *(self._folder / KEYS).glob(".*")]:
                left.unlink(missing_ok=True)
            with told_when_full():
                yield
        finally:
            os.close(descriptor)

    def _document(self, id: str) -> Path:
        return self._folder / DOCUMENTS / f"{checked_id(id)}.json"


def new_id(made_at: str) -> str:
    """An id that sorts by time; ``made_at`` is ISO 8601 in UTC, with milliseconds."""
    random = hashlib.sha256(os.urandom(16)).hexdigest()[:6]
    return f"{re.sub('[-:.]', '', made_at[:23])}Z-{random}"


def checked_id(id: str) -> str:
    """``id`` itself; UsageError where it is the name of no backup."""
    if not ID.fullmatch(id):
        raise UsageError(f"{id[:100]!r} names no backup.", "`portal backup --list` tells their names.")
    return id


def no_backup(id: str, where: str) -> NotFound:
    """The error of a backup that is not there."""
    return NotFound(f"There is no backup {id} at {where}.", "`portal backup --list` tells which there are.")


def _write_whole(path: Path, data: bytes, mode: int) -> None:
    """A file that is there whole, or not at all, whatever happens meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with writing_whole(path, mode, lasting=True) as temporary:
        temporary.write_bytes(data)
