"""Blobs in a folder of this machine: written beside their place, flushed to disk, then linked there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from portal.storage.blobs import HeldBlob, blocks_key_of, differs, is_name, key_of
from portal.storage.hashing import BLOCK_ALGORITHM, BLOCK_SIZE, FileDigest, hash_file
from portal.storage.local import uri_of
from portal.storage.staging import StagedUpload, told_when_full
from portal.storage.whole import flush


class FolderBlobs:
    """The `BlobStore` of a folder."""

    def __init__(self, folder: Path, staging: Path) -> None:
        self._folder = folder
        self._staging = staging

    def has(self, sha256: str) -> int | None:
        """Bytes of the blob, or None when it is not here."""
        try:
            return (self._folder / key_of(sha256)).stat().st_size
        except FileNotFoundError:
            return None

    def digest(self, sha256: str) -> FileDigest | None:
        """Its digests, or None when it is not here."""
        path = self._folder / key_of(sha256)
        try:
            about = path.stat()
        except FileNotFoundError:
            return None
        try:
            blocks = (self._folder / blocks_key_of(sha256)).read_bytes()
        except FileNotFoundError:
            # Put there by other hands.
            found = hash_file(path)
            if found.sha256 != sha256:
                raise differs(str(path), sha256, found.sha256) from None
            self._write_blocks(found)
            return found
        return FileDigest(sha256, about.st_size, BLOCK_SIZE, blocks, BLOCK_ALGORITHM, about.st_mtime_ns)

    def put_file(self, path: Path, sha256: str) -> FileDigest:
        """Copy a file in, hashed on the way; see `BlobStore`."""
        known = self.digest(sha256)
        if known is not None:
            return known
        with told_when_full(), self._beside() as temporary:
            with temporary.open("wb", buffering=0) as stream:
                digest = hash_file(path, [_Copier(stream.fileno())])
                os.fsync(stream.fileno())
            if digest.sha256 != sha256:
                raise differs(str(path), sha256, digest.sha256)
            return self._place(temporary, digest)

    def begin(self, sha256: str, size: int) -> StagedUpload:
        """A new upload, or the one that was interrupted."""
        return StagedUpload(self, self._staging, sha256, size)

    def location(self, sha256: str) -> str:
        """Its ``file://`` URI."""
        return uri_of(self._folder / key_of(sha256))

    def public_url(self, sha256: str, name: str = "") -> str | None:  # noqa: ARG002 - the portal itself serves it
        """None: folders of this machine have no address of their own."""
        return None

    def list_held(self) -> Iterator[HeldBlob]:
        """Every blob in its place."""
        for path in sorted((self._folder / "sha256").glob("??/*")):
            with suppress(FileNotFoundError):
                about = path.stat()
                if is_name(path.name) and path.is_file():
                    yield HeldBlob(path.name, about.st_size, about.st_mtime_ns)

    def modified_ns(self, sha256: str) -> int | None:
        """When the blob came, or None when it is not here."""
        try:
            return (self._folder / key_of(sha256)).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def remove(self, sha256: str) -> None:
        """Take a blob and its digests away; the blob first, as one without digests is hashed again."""
        (self._folder / key_of(sha256)).unlink(missing_ok=True)
        (self._folder / blocks_key_of(sha256)).unlink(missing_ok=True)

    def take(self, path: Path, sha256: str, shown: str, passed: FileDigest | None = None) -> FileDigest:
        """Move a whole upload to its place; see `Keeper`."""
        if path.stat().st_dev != self._made(self._folder).stat().st_dev:
            return self.put_file(path, sha256)
        digest = passed or hash_file(path)
        if digest.sha256 != sha256:
            raise differs(shown, sha256, digest.sha256)
        return self._place(path, digest)

    def _place(self, temporary: Path, digest: FileDigest) -> FileDigest:
        """Link verified bytes into their place; the digests of their blocks first, so that no blob is without."""
        self._write_blocks(digest)
        target = self._folder / key_of(digest.sha256)
        self._made(target.parent)
        os.chmod(temporary, 0o444)
        flush(temporary)
        with suppress(FileExistsError):
            # A link, unlike a rename, never replaces what another request has put there meanwhile.
            os.link(temporary, target)
        flush(target.parent)
        return replace(digest, modified_ns=target.stat().st_mtime_ns)

    def _write_blocks(self, digest: FileDigest) -> None:
        target = self._folder / blocks_key_of(digest.sha256)
        self._made(target.parent)
        with self._beside() as temporary:
            temporary.write_bytes(digest.blocks)
            flush(temporary)
            with suppress(FileExistsError):
                os.link(temporary, target)
        flush(target.parent)

    @contextmanager
    def _beside(self) -> Iterator[Path]:
        handle, name = tempfile.mkstemp(dir=self._made(self._folder / "incoming"))
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @staticmethod
    def _made(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class _Copier:
    """Writes the bytes that are being hashed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def feed(self, data: memoryview) -> None:
        """Write all of it."""
        while data:
            data = data[os.write(self._descriptor, data) :]
