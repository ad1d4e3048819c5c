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
from portal.storage.hashing import FileDigest, PassingDigest

FORGOTTEN_S = 7 * 86400
ENDING = ".part"


class Keeper(Protocol):
    """What takes a whole upload over."""

    def has(self, sha256: str) -> int | None:
        """Bytes of the blob that is in its place."""

    def digest(self, sha256: str) -> FileDigest | None:
        """Its digests."""

    def take(self, path: Path, sha256: str, shown: str, passed: FileDigest | None = None) -> FileDigest:
        """Put the file in its place; IntegrityError when it is another one. The file may be gone then.

        It is hashed on the way; with ``passed`` it was, while its bytes came in, and need not be read again.
        """


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
        with told_when_full(), self.open_at(offset) as writing:
            for piece in pieces:
                writing.write(piece)
        return writing.received

    @contextmanager
    def open_at(self, offset: int) -> Iterator[Writing]:
        """Hold the upload to append to it piece by piece; see `Upload`."""
        if not self._path.exists() and self._keeper.has(self.sha256) == self.size:
            raise OffsetMismatch(self.size, offset)
        with self._locked() as descriptor:
            held = os.fstat(descriptor).st_size
            if offset != held:
                raise OffsetMismatch(held, offset)
            writing = Writing(self, descriptor, held)
            try:
                yield writing
            finally:
                with told_when_full():
                    writing.flush()

    def finish(self) -> FileDigest:
        """Verify, and put the blob in its place; see `Upload`."""
        if not self._path.exists():
            known = self._keeper.digest(self.sha256)
            if known is not None and known.size == self.size:
                return known
        with self._locked() as descriptor:
            return self._take(os.fstat(descriptor).st_size)

    def _take(self, held: int, passed: FileDigest | None = None) -> FileDigest:
        """Hand the whole file over; only while it is locked."""
        if held != self.size:
            raise OffsetMismatch(held, self.size)
        try:
            with told_when_full():
                digest = self._keeper.take(self._path, self.sha256, f"The upload {self.sha256}", passed)
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


class Writing:
    """An upload while one request writes to it; nobody else does meanwhile."""

    def __init__(self, upload: StagedUpload, descriptor: int, received: int) -> None:
        self.received = received
        """Bytes that are here, from the beginning."""
        self._upload = upload
        self._descriptor = descriptor
        # What comes in one go is hashed as it comes; after an interruption the file is read once more.
        self._passing = None if received else PassingDigest()
        self._flushed = True

    def write(self, piece: bytes | memoryview) -> None:
        """Append; TooLarge beyond the announced size, StorageFull."""
        size = self._upload.size
        if self.received + len(piece) > size:
            raise TooLarge(f"More bytes came than the {size:,} that were announced.", "Announce the true size.")
        self._flushed = False
        with told_when_full():
            _append(self._descriptor, piece, self.received)
        self.received += len(piece)
        if self._passing:
            self._passing.feed(piece)

    def flush(self) -> None:
        """What a client is told is here must still be here after the power failed."""
        if not self._flushed:
            os.fdatasync(self._descriptor)
            self._flushed = True

    def finish(self) -> FileDigest:
        """What `Upload.finish` does, while the upload is still held."""
        self.flush()
        return self._upload._take(self.received, self._passing.result() if self._passing else None)


def forget_old(folder: Path) -> None:
    """Remove uploads nobody has gone on with for a week."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > FORGOTTEN_S:
                    os.unlink(entry.path)


def staged_names(folder: Path) -> set[str]:
    """The sha256 of every upload on its way."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return {entry.name.partition("-")[0] for entry in entries if entry.name.endswith(ENDING)}
    return set()


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


def _append(descriptor: int, piece: bytes | memoryview, offset: int) -> None:
    view = memoryview(piece)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
