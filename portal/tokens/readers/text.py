"""Line files as one kind of thing: plain, gzip and zstd texts with the starts of their lines."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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

    lines = "lines.npy"

    def __init__(self, source: FileBytes, index_folder: Path, key: str) -> None:
        self.path = source.path
        self._source = source
        path = index_path(index_folder, key, self.lines)
        self.starts = load_or_build(path, source.size, lambda: scan_lines(source.path, source.blocks()))

    def read(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview | PortalError]:
        """Neighbouring lines come in one read."""
        spans = [Span(0, offset, length) for offset, length in ranges]
        return fetch(spans, lambda _, offset, length: self._source.read(offset, length), self._source.remote)

    def close(self) -> None:
        """Give the file back."""
        self._source.close()


OPENERS: dict[str, type[GzipText] | type[ZstdText]] = {".gz": GzipText, ".zst": ZstdText}
"""By ending; everything else is plain."""


def open_text(file: ReadableFile, index_folder: Path, tally: Tally) -> TextFile:
    """Open by the file name's ending; builds and stores the line index where there is none yet.

    Building reads the whole file once and is not counted in ``tally``.
    """
    building = Tally()
    source = FileBytes.of(file, building)
    text = _kind_of(file.path)(source, index_folder, _key(file, source))
    source.tally = tally
    return text


def is_indexed(file: ReadableFile, index_folder: Path) -> bool:
    """True when the line index of ``file``, whose sha256 is known, is stored."""
    return bool(file.sha256) and index_path(index_folder, file.sha256 or "", _kind_of(file.path).lines).exists()


def index_lines(file: ReadableFile, index_folder: Path) -> None:
    """Build and store what reading lines of ``file`` needs, where it is missing; PortalError when it cannot be read."""
    open_text(file, index_folder, Tally()).close()


def _kind_of(path: str) -> type[PlainText] | type[GzipText] | type[ZstdText]:
    return OPENERS.get(Path(path).suffix, PlainText)


def _key(file: ReadableFile, source: FileBytes) -> str:
    """A name that changes when the bytes do: the sha256, or without one a hash of place, size and time."""
    if file.sha256:
        return file.sha256
    return hashlib.sha256(f"{file.uri}\n{source.size}\n{source.modified_ns}".encode()).hexdigest() + "-unverified"
