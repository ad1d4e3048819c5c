"""Line files as one kind of thing: plain, gzip and zstd texts with the starts of their lines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from portal.errors import PortalError
from portal.tokens.readers.gzip_text import GzipText
from portal.tokens.readers.lines import Starts, index_path, load_or_build, scan_lines
from portal.tokens.readers.rows import ReadableFile, Tally
from portal.tokens.readers.source import FileBytes
from portal.tokens.readers.zstd_text import ZstdText
from portal.tokens.spans import Span, fetch


class TextFile(Protocol):
    """A text by byte ranges; offsets count decompressed bytes."""

    path: str
    starts: Starts

    def read(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview | PortalError]:
        """(offset, length) pairs -> bytes, in that order."""

    def close(self) -> None:
        """Give the file back."""


class PlainText:
    """An uncompressed text: a range of it is a range of the file."""

    def __init__(self, source: FileBytes, index_folder: Path, key: str) -> None:
        self.path = source.path
        self._source = source
        self.starts = load_or_build(index_path(index_folder, key), source.size, lambda: scan_lines(source.blocks()))

    def read(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview | PortalError]:
        """Neighbouring lines come in one read."""
        spans = [Span(0, offset, length) for offset, length in ranges]
        return fetch(spans, lambda _, offset, length: self._source.read(offset, length), self._source.remote)

    def close(self) -> None:
        """Give the file back."""
        self._source.close()


OPENERS: dict[str, Callable[[FileBytes, Path, str], TextFile]] = {".gz": GzipText, ".zst": ZstdText}
"""By ending; everything else is plain."""


def open_text(file: ReadableFile, index_folder: Path, tally: Tally) -> TextFile:
    """Open by the file name's ending; builds and stores the line index where there is none yet.

    Building reads the whole file once and is not counted in ``tally``.
    """
    building = Tally()
    source = FileBytes.of(file, building)
    opener = OPENERS.get(Path(file.path).suffix, PlainText)
    text = opener(source, index_folder, _key(file, source))
    source.tally = tally
    return text


def _key(file: ReadableFile, source: FileBytes) -> str:
    """A name that changes when the bytes do: the sha256, or without one a hash of place, size and time."""
    if file.sha256:
        return file.sha256
    return hashlib.sha256(f"{file.uri}\n{source.size}\n{source.modified_ns}".encode()).hexdigest() + "-unverified"
