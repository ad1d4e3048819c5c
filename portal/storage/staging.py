"""Uploads on their way in: one file for each, appended to under a lock, forgotten after a week of silence."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from portal.errors import BadRequest, IntegrityError, OffsetMismatch, StorageFull, TooLarge, UploadBusy
from portal.storage.blobs import checked_name
from portal.storage.hashing import FileDigest

FORGOTTEN_S = 7 * 86400
ENDING = ".part"


class Keeper(Protocol):
    """What takes a whole upload over."""

    def has(self, sha256: str) -> int | None:
        """Bytes of the blob that is in its place."""

    def digest(self, sha256: str) -> FileDigest | None:
        """Its digests."""

    def take(self, path: Path, sha256: str, shown: str) -> FileDigest:
        """Hash the file and put it in its place; IntegrityError when it is another one. The file may be gone then."""


class StagedUpload:
    """The `Upload` of every kind of store."""

    def __init__(self, keeper: Keeper, folder: Path, sha256: str, size: int) -> None:
        if size < 0:
            raise BadRequest("A blob cannot have fewer than 0 bytes.", "Announce its size in bytes.")
        self.sha256 = checked_name(sha256)
        self.size = size
        self._keeper = keeper
        # The size is part of the name: whoever announces a wrong one spoils only their own upload.
        self._path = folder / f"{sha256}-{size}{ENDING}"

    @property
    def received(self) -> int:
        """Bytes that are here, from the beginning."""
        try:
            return self._path.stat().st_size
        except OSError:
            return self.size if self._keeper.has(self.sha256) == self.size else 0

    def write_at(self, offset: int, pieces: Iterable[bytes]) -> int:
        """Append ``pieces``; see `Upload`."""
        if not self._path.exists() and self._keeper.has(self.sha256) == self.size:
            raise OffsetMismatch(self.size, offset)
        with told_when_full(), self._locked() as descriptor:
            held = os.fstat(descriptor).st_size
            if offset != held:
                raise OffsetMismatch(held, offset)
            try:
                for piece in pieces:
                    if held + len(piece) > self.size:
                        raise TooLarge(
                            f"More bytes came than the {self.size:,} that were announced.", "Announce the true size."
                        )
                    _append(descriptor, piece, held)
                    held += len(piece)
            finally:
                # What the client is told is here must still be here after the power failed.
                os.fdatasync(descriptor)
        return held

    def finish(self) -> FileDigest:
        """Verify, and put the blob in its place; see `Upload`."""
        if not self._path.exists():
            known = self._keeper.digest(self.sha256)
            if known is not None and known.size == self.size:
                return known
        with told_when_full(), self._locked() as descriptor:
            held = os.fstat(descriptor).st_size
            if held != self.size:
                raise OffsetMismatch(held, self.size)
            try:
                digest = self._keeper.take(self._path, self.sha256, f"The upload {self.sha256}")
            except IntegrityError:
                # Never to become the blob. Where only its place could not be reached, finishing again is enough.
                self.abandon()
                raise
            self.abandon()
        return digest

    def abandon(self) -> None:
        """Forget what was received."""
        self._path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        forget_old(self._path.parent)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UploadBusy(
                    f"Another request is writing to the upload {self.sha256}.", "Ask how far it is, then go on there."
                ) from None
            if not self._is_there(descriptor):
                raise UploadBusy(f"The upload {self.sha256} was ended by another request.", "Begin it again.")
            yield descriptor
        finally:
            os.close(descriptor)

    def _is_there(self, descriptor: int) -> bool:
        """Whether the file that was opened is still the upload's: it may have been ended between opening and locking."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        return False


def forget_old(folder: Path) -> None:
    """Remove uploads nobody has gone on with for a week."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > FORGOTTEN_S:
                    os.unlink(entry.path)


@contextmanager
def told_when_full() -> Iterator[None]:
    """StorageFull where the disk has no room."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(
                "There is no room left where the portal keeps its files.", "Its operator can make room; then go on."
            ) from None
        raise


def _append(descriptor: int, piece: bytes, offset: int) -> None:
    view = memoryview(piece)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
