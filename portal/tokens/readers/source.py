"""The bytes of one file by range, counted: a kept descriptor where the file is local, its store otherwise."""

from __future__ import annotations

import io
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from portal.errors import DataFault, PortalError
from portal.storage import Store
from portal.storage.published import by_path
from portal.tokens.readers.rows import ReadableFile, Tally
from portal.tokens.spans import Span, fetch

BLOCK = 8 << 20
"""Bytes of one piece when a whole file is passed through."""


AHEAD_SHARE = 16
"""Of a piece that is read elsewhere, this part of its length is read along with it."""
MOST_AHEAD = 64 << 10

KEPT_DESCRIPTORS = 256
"""Files of all readers together that are kept open; further ones are read through their store, a little slower."""

_permits = threading.Semaphore(KEPT_DESCRIPTORS)


class FileBytes:
    """Ranges of one file. A local file stays open, because finding it again costs more than reading a row of it."""

    def __init__(self, path: str, uri: str, store: Store, tally: Tally) -> None:
        self.path = path
        self.uri = uri
        self.tally = tally
        self._store = store
        local = store.local_path(uri)
        self._private = "" if local is None else str(local)
        try:
            found = store.seen(uri, tally.meter)
        except PortalError as error:
            raise self._told(error) from None
        self.size = found.size
        """Bytes of the file as it is now, whatever the manifest says."""
        self.modified_ns = found.modified_ns
        self.remote = local is None
        """True where every read is a request."""
        self._open = None if local is None else _OpenFile.of(local)

    @classmethod
    def of(cls, file: ReadableFile, tally: Tally) -> FileBytes:
        """Open ``file``; FileMissing when it is not at its place."""
        return cls(file.path, file.uri, file.store, tally)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; DataFault when the file ends before."""
        tally, kept = self.tally, self._open
        tally.bytes_read += length
        tally.reads += 1
        if kept is not None:
            found = os.pread(kept.descriptor, length, offset)
            # One pread returns at most 2 GiB, and nothing at the end of the file.
            if len(found) == length:
                return found
        try:
            return self._store.read_range(self.uri, offset, length, tally.meter)
        except PortalError as error:
            raise self._told(error) from None

    def read_each(self, offsets: Sequence[int], length: int) -> bytes:
        """Pieces of one length from many places, end to end in the order asked for; DataFault as of `read`."""
        kept = self._open
        if kept is not None:
            descriptor, pread = kept.descriptor, os.pread
            found = b"".join([pread(descriptor, length, offset) for offset in offsets])
            if len(found) == length * len(offsets):
                self.tally.bytes_read += len(found)
                self.tally.reads += len(offsets)
                return found
        spans = [Span(0, offset, length) for offset in offsets]
        pieces = fetch(spans, lambda _, at, size: self.read(at, size), self.remote)
        for piece in pieces:
            if isinstance(piece, PortalError):
                raise piece
        return b"".join(piece for piece in pieces if not isinstance(piece, PortalError))

    def read_spans(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several (offset, length) in as few requests as the store makes of them."""
        self.tally.bytes_read += sum(length for _, length in spans)
        self.tally.reads += 1
        try:
            return self._store.read_ranges(self.uri, spans, self.tally.meter)
        except PortalError as error:
            raise self._told(error) from None

    def cut_short(self, offset: int, length: int) -> DataFault:
        """The fault of a range that reaches past the end."""
        return DataFault(
            f"{self.path} is {self.size:,} bytes long and ends before byte {offset + length:,}.",
            "The file is cut short, or its row length, dtype or index is wrong: compare it with the release.",
        )

    def _told(self, error: PortalError) -> PortalError:
        """The error by the file's name in the manifest: answers keep the folders of this machine to themselves."""
        if not self._private:
            return by_path(error, self.uri, self.path)
        return type(error)(error.message.replace(self._private, self.path), error.remedy)

    def blocks(self, block: int = BLOCK) -> Iterator[bytes]:
        """The whole file, piece by piece."""
        for offset in range(0, self.size, block):
            yield self.read(offset, min(block, self.size - offset))

    def as_file(self) -> SeekableFile:
        """The same bytes as a seekable binary file, for libraries that want one."""
        return SeekableFile(self)

    def close(self) -> None:
        """Let go of the open file; it is closed once no thread reads from it."""
        self._open = None


class SeekableFile(io.RawIOBase):
    """A read-only file object over `FileBytes`."""

    def __init__(self, source: FileBytes, start: int = 0, size: int | None = None) -> None:
        super().__init__()
        self._source = source
        self._start = start
        self._size = source.size - start if size is None else size
        self._at = 0
        self.touched: tuple[int, int] | None = None
        """First and last byte (exclusive) read since this was last set to None."""
        self.ahead = False
        """Whether a piece read elsewhere brings a little of what follows it."""
        self._held: list[tuple[int, bytes]] = []
        self._after: tuple[int, bytes] = 0, b""

    def hold(self, spans: Sequence[tuple[int, int]]) -> None:
        """Fetch these (offset, length) together; reads inside them cost nothing until others are held."""
        self._held = [(at, data) for (at, _), data in zip(spans, self._source.read_spans(spans), strict=True)]

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Place of the next read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the place of the next read."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(origin + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as the file reaches."""
        view = memoryview(buffer).cast("B")
        length = max(min(len(view), self._size - self._at), 0)
        if length:
            view[:length] = self._bytes(self._start + self._at, length)
            first, last = self.touched or (self._at, self._at)
            self.touched = min(first, self._at), max(last, self._at + length)
            self._at += length
        return length

    def _bytes(self, offset: int, length: int) -> bytes:
        for begin, data in (*self._held, self._after):
            if begin <= offset and offset + length <= begin + len(data):
                return data[offset - begin : offset - begin + length]
        if not (self.ahead and self._source.remote):
            return self._source.read(offset, length)
        # What follows a long piece is often short and asked for next: a little more now is one request less.
        ahead = min(length // AHEAD_SHARE, MOST_AHEAD, self._source.size - offset - length)
        data = self._source.read(offset, length + max(ahead, 0))
        self._after = offset, data
        return data[:length]


class _OpenFile:
    """A descriptor that lives as long as somebody refers to it: closing it under a running read would let the
    system give its number to another file."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, _release, descriptor)

    @classmethod
    def of(cls, path: Path) -> _OpenFile | None:
        """Open ``path``, or None where too many are open or it cannot be: the store then says why, in words."""
        if not _permits.acquire(blocking=False):
            return None
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            _permits.release()
            return None


def _release(descriptor: int) -> None:
    os.close(descriptor)
    _permits.release()
