"""The bytes of one file by range, counted: a kept descriptor where the file is local, its store otherwise."""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from portal.errors import DataFault, FileMissing
from portal.storage import Store
from portal.tokens.readers.rows import ReadableFile, Tally

BLOCK = 8 << 20
"""Bytes of one piece when a whole file is passed through."""


class FileBytes:
    """Ranges of one file. A local file is opened once, because opening costs more than reading a row."""

    def __init__(self, path: str, uri: str, store: Store | None, tally: Tally, local: Path | None = None) -> None:
        self.path = path
        self.uri = uri
        self.tally = tally
        self._store = store
        self.local = local if local is not None or store is None else store.local_path(uri)
        self._descriptor = -1
        self._size: int | None = None
        if self.local is not None:
            self._open(self.local)

    @classmethod
    def of(cls, file: ReadableFile, tally: Tally) -> FileBytes:
        """Open ``file``; FileMissing when it is not at its place."""
        return cls(file.path, file.uri, file.store, tally)

    @property
    def remote(self) -> bool:
        """True where every read is a request."""
        return self._descriptor < 0

    @property
    def size(self) -> int:
        """Size in bytes as the file has it now, whatever the manifest says."""
        if self._size is None and self._store is not None:
            self._size = self._store.stat(self.uri).size
        return self._size or 0

    @property
    def modified_ns(self) -> int | None:
        """When the file was last written, where its store knows."""
        if not self.remote:
            return os.fstat(self._descriptor).st_mtime_ns
        return self._store.stat(self.uri).modified_ns if self._store is not None else None

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; DataFault when the file ends before."""
        self.tally.bytes_read += length
        self.tally.reads += 1
        if self.remote and self._store is not None:
            return self._store.read_range(self.uri, offset, length)
        found = os.pread(self._descriptor, length, offset)
        while len(found) < length:
            # One pread returns at most 2 GiB, and nothing at the end of the file.
            more = os.pread(self._descriptor, length - len(found), offset + len(found))
            if not more:
                raise self.cut_short(offset, length)
            found += more
        return found

    def cut_short(self, offset: int, length: int) -> DataFault:
        """The fault of a range that reaches past the end."""
        return DataFault(
            f"{self.path} is {self.size:,} bytes long and ends before byte {offset + length:,}.",
            "The file is cut short, or its row length, dtype or index is wrong: compare it with the release.",
        )

    def blocks(self, block: int = BLOCK) -> Iterator[bytes]:
        """The whole file, piece by piece."""
        for offset in range(0, self.size, block):
            yield self.read(offset, min(block, self.size - offset))

    def as_file(self) -> SeekableFile:
        """The same bytes as a seekable binary file, for libraries that want one."""
        return SeekableFile(self)

    def close(self) -> None:
        """Give the descriptor back."""
        if not self.remote:
            self._finalizer()
            self._descriptor = -1

    def _open(self, local: Path) -> None:
        try:
            self._descriptor = os.open(local, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise FileMissing(
                f"{self.path} is not where it was catalogued.", "Restore the file, or publish its new place."
            ) from None
        except OSError as error:
            raise FileMissing(f"{self.path} cannot be opened: {error.strerror}.", "Check its permissions.") from None
        self._finalizer = weakref.finalize(self, os.close, self._descriptor)
        self._size = os.fstat(self._descriptor).st_size


class SeekableFile(io.RawIOBase):
    """A read-only file object over `FileBytes`."""

    def __init__(self, source: FileBytes, start: int = 0, size: int | None = None) -> None:
        super().__init__()
        self._source = source
        self._start = start
        self._size = source.size - start if size is None else size
        self._at = 0

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
            view[:length] = self._source.read(self._start + self._at, length)
            self._at += length
        return length
