"""Where the lines of a text begin: counted in one pass, stored beside other indexes, memory-mapped from then on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from portal.errors import DataFault, TooLarge
from portal.storage.whole import writing_whole

Starts = npt.NDArray[np.uint64]
"""Start of every line, then the end of the text: line k is bytes ``[starts[k], starts[k+1])`` with its newline."""

PIECE = 1 << 18
"""Bytes scanned at once: small enough to stay in the processor's cache."""

ABANDONED_S = 3600
"""Seconds after which a temporary file that nobody writes to any more was left by a killed process."""

MIN_LINE = 8
"""Bytes per line, on average, of a text with many lines: as much as its place in the index takes."""
FINE_LINES = 1 << 23
"""Lines that are no danger however short they are: an index of 64 MiB."""

_building = tuple(threading.Lock() for _ in range(64))
"""One of these for each index being built, by its path."""


class OffsetBuilder:
    """Finds line starts while bytes pass by, so that publishing hashes and indexes in one read."""

    def __init__(self, path: str = "the text", size: int = 0, lines: int = 0) -> None:
        self.path = path
        self.size = size
        """Bytes passed by, those before it began among them."""
        self.too_dense = False
        """True once the lines are too many and too short to be rows; they are counted no further."""
        self._lines = lines
        self._found: list[Starts] = []
        self._open_line = False

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the text."""
        whole = np.frombuffer(data, dtype=np.uint8)
        for begin in range(0, len(whole), PIECE):
            piece = whole[begin : begin + PIECE]
            newlines = np.flatnonzero(piece == 10)
            self._lines += len(newlines)
            if self._lines > FINE_LINES and self._lines * MIN_LINE > self.size + begin + len(piece):
                self.too_dense = True
                self._found.clear()
            if len(newlines) and not self.too_dense:
                self._found.append((newlines + (self.size + begin + 1)).astype(np.uint64))
        if len(whole):
            self._open_line = bool(whole[-1] != 10)
        self.size += len(whole)

    def finish(self) -> Starts:
        """All starts and the end; a last line without a newline counts. TooLarge where lines are too many and short."""
        self.refuse_dense()
        end = [np.array([self.size], dtype=np.uint64)] if self._open_line else []
        return np.concatenate([np.zeros(1, dtype=np.uint64), *self._found, *end])

    def take(self) -> Starts:
        """Starts after each newline since they were last taken: a pass that is written down keeps them itself."""
        found = np.concatenate([np.zeros(0, dtype=np.uint64), *self._found])
        self._found.clear()
        return found

    def refuse_dense(self) -> None:
        """TooLarge where lines are too many and short."""
        if self.too_dense:
            raise TooLarge(
                f"{self.path} has more than {FINE_LINES:,} lines of under {MIN_LINE} bytes each; their index would be "
                "larger than the text",
                "No row of token ids is that short: take the empty lines out.",
            )


def scan_lines(path: str, blocks: Iterable[bytes | memoryview]) -> Starts:
    """Line starts of a text that comes in pieces; ``path`` names it in errors."""
    builder = OffsetBuilder(path)
    for block in blocks:
        builder.feed(block)
        if builder.too_dense:
            break
    return builder.finish()


def index_path(index_folder: Path, key: str, kind: str = "lines.npy") -> Path:
    """Where the index of a file lies; ``key`` is its sha256, or another name that changes with its bytes."""
    return index_folder / key[:2] / f"{key}.{kind}"


def save_index(path: Path, starts: npt.NDArray[np.uint64]) -> None:
    """Store an index; a reader sees all of it or none."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.save(stream, starts, allow_pickle=False)

    write_whole(path, write)


def load_index(path: Path, size: int | None) -> Starts | None:
    """A stored index, memory-mapped; None when there is none, or it is damaged or of a text of another size."""
    try:
        starts = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if starts.dtype != np.uint64 or starts.ndim != 1 or not len(starts):
        return None
    if size is not None and int(starts[-1]) != size:
        return None
    return np.asarray(starts)


def load_or_build(path: Path, size: int | None, build: Callable[[], Starts]) -> Starts:
    """The index at ``path``, built and stored first where it is missing."""
    found = load_index(path, size)
    if found is not None:
        return found
    # One builder of each: two requests for one cold chunk would both read all of it.
    with _building[hash(path) % len(_building)]:
        found = load_index(path, size)
        if found is None:
            save_index(path, build())
            found = load_index(path, size)
    if found is None:
        raise DataFault(f"The index {path.name} changed while it was read.", "Ask again; the file is being replaced.")
    return found


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk and put it in place in one step."""
    _clear_abandoned(path)
    with writing_whole(path) as temporary:
        write(temporary)


def _clear_abandoned(path: Path) -> None:
    now = time.time()
    for left in path.parent.glob(f".{path.name}.*"):
        with suppress(FileNotFoundError):
            if now - left.stat().st_mtime > ABANDONED_S:
                left.unlink()
