"""A gzip text by byte ranges: seek points every MiB, made once with `indexed_gzip` and stored."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import indexed_gzip

from portal.errors import DataFault, PortalError
from portal.tokens.readers.lines import Starts, index_path, load_or_build, scan_lines, write_whole
from portal.tokens.readers.ratio import BLOCK, RatioGuard
from portal.tokens.readers.refused import unless_refused
from portal.tokens.readers.source import FileBytes

SPACING = 1 << 20
"""Decompressed bytes between seek points: what a read decompresses at most before its first byte."""


class GzipText:
    """One gzip file. Reads take turns, because the decompressor has one position."""

    lines = "gz.lines.npy"

    def __init__(self, source: FileBytes, index_folder: Path, key: str) -> None:
        self.path = source.path
        self._source = source
        self._points = index_path(index_folder, key, "gz.points")
        self._turn = threading.Lock()
        self._stream = indexed_gzip.IndexedGzipFile(fileobj=source.as_file(), spacing=SPACING)
        index = index_path(index_folder, key, self.lines)
        self.starts = load_or_build(index, None, lambda: unless_refused(index, source, self._build))
        self._import_points()

    def read(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview | PortalError]:
        """Decompresses from the seek point before each range."""
        with self._turn:
            return [self._read_one(offset, length) for offset, length in ranges]

    def close(self) -> None:
        """Give the file back."""
        self._stream.close()
        self._source.close()

    def _read_one(self, offset: int, length: int) -> bytes | PortalError:
        try:
            self._stream.seek(offset)
            found: bytes = self._stream.read(length)
        except (OSError, EOFError, ValueError, PortalError) as error:
            return self._broken(error)
        if len(found) < length:
            return self._broken(EOFError("it ends early"))
        return found

    def _build(self) -> Starts:
        starts = scan_lines(self.path, self._decompressed())
        if int(starts[-1]) % (1 << 32) != self._stated_size():
            self._check_members()
        write_whole(self._points, lambda temporary: self._stream.export_index(str(temporary)))
        return starts

    def _decompressed(self) -> Iterator[bytes]:
        guard = RatioGuard(self.path, self._source.size)
        try:
            while block := self._stream.read(BLOCK):
                guard.count(len(block))
                yield block
        except (OSError, EOFError, ValueError) as error:
            raise self._broken(error) from None

    def _stated_size(self) -> int:
        """What the last member says of its size, modulo 2**32: all of the text, where there is one member."""
        return int.from_bytes(self._source.read(self._source.size - 4, 4), "little") if self._source.size >= 4 else -1

    def _check_members(self) -> None:
        """Several members, or a file cut short, which the index library takes for its end."""
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            for block in self._source.blocks(BLOCK):
                while block:
                    if member.eof:
                        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
                    member.decompress(block, BLOCK)
                    block = member.unconsumed_tail or member.unused_data.lstrip(b"\0")
            while not member.eof and member.decompress(member.unconsumed_tail, BLOCK):
                pass
        except zlib.error as error:
            raise self._broken(error) from None
        if not member.eof:
            raise self._broken(EOFError("it ends in the middle"))

    def _import_points(self) -> None:
        try:
            self._stream.import_index(str(self._points))
        except (OSError, ValueError, indexed_gzip.ZranError):
            # Seek points only save time: without them the text is decompressed from its start.
            self._stream.seek(0)

    def _broken(self, error: Exception) -> DataFault:
        return DataFault(
            f"{self.path} cannot be decompressed ({error}).", "The file is damaged or cut short: fetch it again."
        )
