"""A zstd text by byte ranges: frames are found once and each is decompressed alone.

A file that is one long frame (what plain ``zstd`` writes) would cost its whole length for every row, so its text is
written once more, beside the indexes, in frames of 1 MiB.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import zstandard

from portal.errors import DataFault, PortalError
from portal.storage import LocalStore
from portal.tokens.readers.lines import (
    OffsetBuilder,
    Starts,
    index_path,
    load_index,
    load_or_build,
    save_index,
    write_whole,
)
from portal.tokens.readers.ratio import BLOCK, RatioGuard
from portal.tokens.readers.refused import unless_refused
from portal.tokens.readers.source import FileBytes, SeekableFile
from portal.tokens.readers.zstd_frames import Frame, walk_frames
from portal.tokens.spans import Span, fetch

MAX_FRAME = 8 << 20
"""Decompressed bytes of a frame that is still read as it is."""
MAX_WINDOW = 1 << 27
"""Largest window the decompressor allocates: what ``zstd --long=27`` needs."""
LEVEL = 3


class ZstdText:
    """One zstd file, of many frames or of one."""

    lines = "zst.lines.npy"

    def __init__(self, source: FileBytes, index_folder: Path, key: str) -> None:
        self.path = source.path
        self._source = source
        self._own_frames = index_path(index_folder, key, "zst.frames.npy")
        self._copy = index_path(index_folder, key, "zst.copy")
        self._copy_frames = index_path(index_folder, key, "zst.copy.frames.npy")
        index = index_path(index_folder, key, self.lines)
        self.starts = load_or_build(index, None, lambda: unless_refused(index, source, self._build))
        self._frames, self._begins = self._load_frames()
        self._held = self._open_copy() if self._copy_frames.exists() else source

    def read(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview | PortalError]:
        """Each frame that the ranges touch is read and decompressed once."""
        touched: dict[int, list[int]] = {}
        for k, (offset, length) in enumerate(ranges):
            last = bisect_right(self._begins, offset + max(length, 1) - 1) - 1
            for frame in range(bisect_right(self._begins, offset) - 1, last + 1):
                touched.setdefault(frame, []).append(k)
        order = sorted(touched)
        spans = [Span(0, *self._frames[frame]) for frame in order]
        fetched = fetch(spans, lambda _, offset, length: self._held.read(offset, length), self._held.remote)
        parts: list[list[bytes | memoryview | PortalError]] = [[] for _ in ranges]
        for frame, compressed in zip(order, fetched, strict=True):
            text = self._decompress(frame, compressed)
            for k in touched[frame]:
                parts[k].append(text if isinstance(text, PortalError) else self._cut(text, frame, *ranges[k]))
        return [_joined(pieces) for pieces in parts]

    def close(self) -> None:
        """Give the files back."""
        self._held.close()
        self._source.close()

    def _cut(self, text: bytes, frame: int, offset: int, length: int) -> memoryview:
        begin = self._begins[frame]
        return memoryview(text)[max(offset - begin, 0) : max(offset + length - begin, 0)]

    def _decompress(self, frame: int, compressed: bytes | memoryview | PortalError) -> bytes | PortalError:
        if isinstance(compressed, PortalError):
            return compressed
        expected = self._begins[frame + 1] - self._begins[frame]
        try:
            with _decompressor().stream_reader(compressed) as stream:
                text: bytes = stream.read(expected)
        except zstandard.ZstdError as error:
            return _damaged(self.path, str(error))
        return text if len(text) == expected else _damaged(self.path, "a frame is shorter than when it was indexed")

    def _build(self) -> Starts:
        """Find frames and lines in one pass; write the copy in a second one where frames are too long."""
        lines = OffsetBuilder(self.path)
        guard = RatioGuard(self.path, self._source.size)
        frames: list[Frame] = []
        begins = [0]
        for frame in walk_frames(self._source):
            for text in self._texts(frame):
                guard.count(len(text))
                lines.feed(text)
            if lines.too_dense:
                break
            frames.append(frame)
            begins.append(lines.size)
        starts = lines.finish()
        if any(end - begin > MAX_FRAME for begin, end in pairwise(begins)):
            write_whole(self._copy, lambda temporary: self._write_copy(temporary, frames))
        else:
            _save_frames(self._own_frames, frames, begins)
        return starts

    def _write_copy(self, temporary: Path, frames: Sequence[Frame]) -> None:
        compressor = zstandard.ZstdCompressor(level=LEVEL)
        copied: list[Frame] = []
        begins = [0]
        with temporary.open("wb") as out:
            for frame in frames:
                for text in self._texts(frame):
                    copied.append(_append(out, compressor.compress(text)))
                    begins.append(begins[-1] + len(text))
        _save_frames(self._copy_frames, copied, begins)

    def _texts(self, frame: Frame) -> Iterator[bytes]:
        """The text of one frame in pieces of at most 1 MiB, however much it decompresses to."""
        try:
            compressed = cast(BinaryIO, SeekableFile(self._source, frame.offset, frame.length))
            with _decompressor().stream_reader(compressed) as stream:
                while text := stream.read(BLOCK):
                    yield text
        except zstandard.ZstdError as error:
            raise _damaged(self.path, str(error)) from None

    def _load_frames(self) -> tuple[list[tuple[int, int]], list[int]]:
        """((offset, length) of every frame, where its text begins; the last entry is the end of the text)."""
        size = int(self.starts[-1])
        path = self._copy_frames if self._copy_frames.exists() else self._own_frames
        flat = load_index(path, size)
        if flat is None:
            # Line starts without frames: a half-deleted index folder. Build both again.
            self._build()
            flat = load_index(self._copy_frames if self._copy_frames.exists() else self._own_frames, size)
        if flat is None:
            raise _damaged(self.path, "its stored index is of another text")
        table = np.asarray(flat[:-1]).reshape(-1, 3).tolist()
        return [(offset, length) for _, offset, length in table], [*(begin for begin, _, _ in table), size]

    def _open_copy(self) -> FileBytes:
        return FileBytes(self.path, self._copy.as_uri(), LocalStore(), self._source.tally)


def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)


def _append(out: BinaryIO, compressed: bytes) -> Frame:
    frame = Frame(out.tell(), len(compressed))
    out.write(compressed)
    return frame


def _save_frames(path: Path, frames: Sequence[Frame], begins: Sequence[int]) -> None:
    """(begin of the text, offset, length) of every frame, then the size of the text."""
    rows = [(begin, *frame) for begin, frame in zip(begins, frames, strict=False)]
    save_index(path, np.array([*(number for row in rows for number in row), begins[-1]], dtype=np.uint64))


def _joined(pieces: Sequence[bytes | memoryview | PortalError]) -> bytes | memoryview | PortalError:
    for piece in pieces:
        if isinstance(piece, PortalError):
            return piece
    if len(pieces) == 1:
        return pieces[0]
    return b"".join(piece for piece in pieces if not isinstance(piece, PortalError))


def _damaged(path: str, what: str) -> DataFault:
    return DataFault(f"{path} cannot be decompressed ({what}).", "The file is damaged or cut short: fetch it again.")
