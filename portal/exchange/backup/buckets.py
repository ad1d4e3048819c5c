"""Backups below a prefix of a bucket, on the S3 server of the settings."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from portal.errors import FileMissing, IntegrityError, UsageError
from portal.exchange.backup.places import DOCUMENTS, ID, KEYS, OBJECTS, REMEDY, checked_id, no_backup
from portal.settings import Settings
from portal.storage import open_remote
from portal.storage.blobs import BlobStore, blocks_key_of, key_of
from portal.storage.blobs_s3 import BucketBlobs
from portal.storage.s3 import S3Store, split
from portal.storage.staging import told_when_full
from portal.storage.store import Store

PIECE = 8 << 20


class BucketPlace:
    """The `BackupPlace` of a bucket."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = url
        # The operator names it now: it need not be among the buckets that runs may point to.
        own = settings.model_copy(update={"storage_url": url})
        self._bucket, prefix = split(url, folder=True)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._store = cast(S3Store, open_remote(f"{url}/x", own))
        self.blobs: BlobStore = BucketBlobs(f"{url}/{OBJECTS}", own, settings.data / "store" / "uploads")

    def ids(self) -> list[str]:
        """See `BackupPlace`."""
        try:
            found = [f.path.removesuffix(".json") for f in self._store.list_files(f"{self._url}/{DOCUMENTS}")]
        except FileMissing:
            # A bucket that is not there must be told, not taken for one without backups.
            self._store.ask(self._url, lambda client: client.head_bucket(Bucket=self._bucket))
            return []
        return sorted(name for name in found if ID.fullmatch(name))

    def read(self, id: str) -> bytes:
        """See `BackupPlace`."""
        uri = f"{self._url}/{DOCUMENTS}/{checked_id(id)}.json"
        try:
            return self._store.read_range(uri, 0, self._store.stat(uri).size)
        except FileMissing:
            raise no_backup(id, self._url) from None

    def write(self, id: str, data: bytes) -> None:
        """See `BackupPlace`."""
        key = f"{self._prefix}{DOCUMENTS}/{checked_id(id)}.json"
        self._store.ask(
            f"s3://{self._bucket}/{key}", lambda client: client.put_object(Bucket=self._bucket, Key=key, Body=data)
        )

    def forget(self, id: str) -> None:
        """See `BackupPlace`."""
        key = f"{self._prefix}{DOCUMENTS}/{checked_id(id)}.json"
        self._store.ask(f"s3://{self._bucket}/{key}", lambda c: c.delete_object(Bucket=self._bucket, Key=key))

    def name(self, key: str) -> str:
        """See `BackupPlace`."""
        return f"{self._url}/{key}"

    @contextmanager
    def copy(self, sha256: str, size: int) -> Iterator[Path]:
        """See `BackupPlace`."""
        uri = f"{self._url}/{OBJECTS}/{key_of(sha256)}"
        with tempfile.TemporaryDirectory(prefix="portal-backup-") as folder:
            path = Path(folder) / "object"
            fetch(self._store, uri, size, path)
            yield path

    def blocks(self, sha256: str, size: int) -> bytes | None:
        """See `BackupPlace`."""
        uri = f"{self._url}/{OBJECTS}/{blocks_key_of(sha256)}"
        try:
            held = self._store.stat(uri).size
            return self._store.read_range(uri, 0, held) if held == -(-size // PIECE) * 32 else b""
        except FileMissing:
            return None

    def write_key(self, id: str, pem: bytes) -> None:  # noqa: ARG002
        """See `BackupPlace`."""
        raise UsageError(
            "A private key is not put into a bucket.", "Leave --with-signing-key out, and keep the key in a safe place."
        )

    def read_key(self, id: str) -> bytes:
        """See `BackupPlace`."""
        raise FileMissing(f"{self._url}/{KEYS}/{id}.pem is missing.", REMEDY)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """See `BackupPlace`; two at a time copy twice, no more: what they write are the same objects."""
        with told_when_full():
            yield


def fetch(store: Store, uri: str, size: int, path: Path) -> None:
    """Copy an object to a file; FileMissing, IntegrityError where it has another size."""
    try:
        if store.stat(uri).size != size:
            raise IntegrityError(f"{uri} is damaged: it has another size.", REMEDY)
        with path.open("wb") as stream:
            for offset in range(0, size, PIECE):
                stream.write(store.read_range(uri, offset, min(PIECE, size - offset)))
    except FileMissing:
        raise FileMissing(f"{uri} is missing.", REMEDY) from None
