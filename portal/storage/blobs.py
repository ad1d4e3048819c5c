"""The portal's own store: blobs uploaded or mirrored, addressed by sha256, whole and verified or not there at all.

`open_blobs` gives the place PORTAL_STORAGE_URL names: a folder of this machine or a prefix of a bucket. Uploads arrive
piece by piece in a folder of this machine (`staging.py`) and survive a restart; only bytes whose sha256 is the one they
were announced under are put in their place, and what lies there is never written again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from portal.errors import BadRequest, IntegrityError
from portal.settings import Settings
from portal.storage.hashing import FileDigest

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HeldBlob:
    """A blob that lies in the store."""

    sha256: str
    size: int
    modified_ns: int
    """When it came, in nanoseconds since 1970."""


class Writing(Protocol):
    """An upload while one request writes to it."""

    @property
    def received(self) -> int:
        """Bytes that are here, from the beginning."""

    def write(self, piece: bytes | memoryview) -> None:
        """Append; TooLarge beyond the announced size, StorageFull."""

    def finish(self) -> FileDigest:
        """What `Upload.finish` does."""


class Upload(Protocol):
    """One blob on its way in; open again with `BlobStore.begin` after an interruption."""

    sha256: str
    size: int

    @property
    def received(self) -> int:
        """Bytes that are here, from the beginning; ``size`` where the blob is here already."""

    def write_at(self, offset: int, pieces: Iterable[bytes]) -> int:
        """Append ``pieces`` and give the new `received`; what came before a piece failed stays.

        OffsetMismatch (with `received`) unless ``offset`` is `received`, TooLarge beyond ``size``, UploadBusy while
        another request writes to it, StorageFull.
        """

    def open_at(self, offset: int) -> AbstractContextManager[Writing]:
        """Hold the upload to append to it piece by piece, as `write_at` does, and to finish it in the same hold."""

    def finish(self) -> FileDigest:
        """Compare the bytes with their sha256 and make them visible. Calling it again gives the same answer.

        OffsetMismatch while bytes are missing; IntegrityError, after which the upload is empty again, when the bytes
        are others than announced.
        """

    def abandon(self) -> None:
        """Forget what was received; a blob that is in its place stays."""


class BlobStore(Protocol):
    """Blobs by sha256; safe to use from several threads and processes."""

    def has(self, sha256: str) -> int | None:
        """Bytes of the blob, or None when it is not here."""

    def digest(self, sha256: str) -> FileDigest | None:
        """Its digests of every block as they were taken on the way in, or None when it is not here."""

    def put_file(self, path: Path, sha256: str) -> FileDigest:
        """Copy a file of this machine into the store, hashed on the way.

        IntegrityError when its sha256 is another one; nothing is visible then. FileMissing, DataFault, StorageFull.
        """

    def begin(self, sha256: str, size: int) -> Upload:
        """A new upload, or the one that was interrupted."""

    def location(self, sha256: str) -> str:
        """The URI under which `open_store` reads it, whether or not it is here."""

    def public_url(self, sha256: str, name: str = "") -> str | None:
        """Where a client gets the bytes without the portal in between (saved as ``name``), or None."""

    def list_held(self) -> Iterator[HeldBlob]:
        """Every blob in its place; other files beside them are passed over."""

    def modified_ns(self, sha256: str) -> int | None:
        """When the blob came, or None when it is not here."""

    def remove(self, sha256: str) -> None:
        """Take a blob and the digests of its blocks away; none that is not here. Only while nobody can come to need it:
        see `portal.catalog.referenced.removing`."""


def open_blobs(settings: Settings) -> BlobStore:
    """The portal's own store. BadRequest for a PORTAL_STORAGE_URL that is neither a folder nor a bucket."""
    url = settings.storage_url
    staging = settings.data / "store" / "uploads"
    if url.startswith("s3://"):
        # Loaded only where the portal's own store is a bucket.
        from portal.storage.blobs_s3 import BucketBlobs  # noqa: PLC0415

        return BucketBlobs(url, settings, staging)
    from portal.storage.blobs_local import FolderBlobs  # noqa: PLC0415

    return FolderBlobs(folder_of(settings), staging)


def is_here(uri: str, settings: Settings) -> bool:
    """Whether a file lies on this machine or in the portal's own bucket: the portal answers for it itself."""
    own = f"{settings.storage_url.rstrip('/')}/sha256/"
    return uri.startswith("file://") or (own.startswith("s3://") and uri.startswith(own))


def folder_of(settings: Settings) -> Path:
    """The folder PORTAL_STORAGE_URL names, by default one under PORTAL_DATA."""
    url = settings.storage_url
    if not url:
        return settings.data.resolve() / "store" / "blobs"
    if url.startswith("file:///"):
        from portal.storage.local import path_of  # noqa: PLC0415

        return path_of(url)
    if os.path.isabs(url):
        return Path(url)
    raise BadRequest(
        f"PORTAL_STORAGE_URL is {url[:200]!r}, which is no place to keep files.",
        "Write a folder (/srv/blobs) or a bucket (s3://bucket/prefix).",
    )


def checked_name(sha256: str) -> str:
    """The sha256 itself; BadRequest for anything else, so that no name of a file is ever made of other text."""
    if not _SHA256.fullmatch(sha256):
        raise BadRequest("A blob is addressed by its sha256: 64 lower-case hexadecimal digits.", "Hash the file first.")
    return sha256


def is_name(text: str) -> bool:
    """Whether it is the sha256 of a blob."""
    return bool(_SHA256.fullmatch(text))


def key_of(sha256: str) -> str:
    """The path of a blob below its store: two digits first, so that no folder holds millions."""
    return f"sha256/{checked_name(sha256)[:2]}/{sha256}"


def blocks_key_of(sha256: str) -> str:
    """The path of the digests of its blocks, 32 bytes each."""
    return f"blocks/{checked_name(sha256)[:2]}/{sha256}.blake3"


def differs(shown: str, wanted: str, found: str) -> IntegrityError:
    """The error of bytes that are not those announced."""
    return IntegrityError(
        f"{shown} does not have the sha256 it was announced under: {found} instead of {wanted}. Nothing was kept.",
        "Send the file again; if its sha256 is wrong in the manifest, correct that.",
    )
