"""Digests of local files: sha256 of the whole and a digest of every 8 MiB block, in one read.

sha256 names a file everywhere else in the world. The blocks make a range of it checkable; they are
BLAKE3, because a second sha256 would halve the speed (measured by ``python -m tests.bench.publish``).
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from blake3 import blake3

from portal.errors import DataFault, FileMissing, IntegrityError

BLOCK_SIZE = 8 << 20
BLOCK_ALGORITHM = "blake3"
BLOCK_DIGEST_BYTES = 32
READ_SIZE = 1 << 20
"""Bytes read at once; divides the block size, so that no read straddles two blocks."""


class Observer(Protocol):
    """Something that looks at the bytes as they pass by, e.g. a counter of lines."""

    def feed(self, data: memoryview) -> None:
        """Take the next bytes; they are overwritten once this returns."""


@dataclass(frozen=True)
class FileDigest:
    """What one read of a file told."""

    sha256: str
    size: int
    block_size: int
    blocks: bytes
    """32 bytes for each block, in order; the last block may be short, an empty file has none."""
    algorithm: str = BLOCK_ALGORITHM
    modified_ns: int = 0
    """mtime of the bytes that were hashed."""


@dataclass(frozen=True)
class HashJob:
    """One file to be hashed; ``key`` is the caller's own name for it."""

    key: str
    path: Path
    size: int
    observers: tuple[Observer, ...] = field(default=())


class PassingDigest:
    """The digest of bytes that pass by in pieces of any size."""

    def __init__(self) -> None:
        self.size = 0
        self._whole, self._block, self._blocks = hashlib.sha256(), blake3(), bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        self._whole.update(view)
        while view:
            room = BLOCK_SIZE - self.size % BLOCK_SIZE
            part, view = view[:room], view[room:]
            self._block.update(part)
            self.size += len(part)
            if self.size % BLOCK_SIZE == 0:
                self._blocks += self._block.digest()
                self._block = blake3()

    def result(self) -> FileDigest:
        """Of all bytes up to now."""
        last = self._block.digest() if self.size % BLOCK_SIZE else b""
        return FileDigest(self._whole.hexdigest(), self.size, BLOCK_SIZE, bytes(self._blocks) + last)


def hash_file(
    path: Path, observers: Sequence[Observer] = (), passed: Callable[[int], None] | None = None
) -> FileDigest:
    """Read ``path`` once; ``passed`` is told the size of every piece.

    Raises FileMissing, DataFault when it cannot be read, IntegrityError when it changed meanwhile.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            before = os.fstat(stream.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            digest, size, blocks = hashlib.sha256(), 0, bytearray()
            block = blake3()
            for piece in _pieces(stream.readinto):
                digest.update(piece)
                block.update(piece)
                for observer in observers:
                    observer.feed(piece)
                size += len(piece)
                if size % BLOCK_SIZE == 0:
                    blocks += block.digest()
                    block = blake3()
                if passed:
                    passed(len(piece))
            if size % BLOCK_SIZE:
                blocks += block.digest()
            after = os.fstat(stream.fileno())
    except FileNotFoundError:
        raise FileMissing(f"{path} is not there.", "Restore it, or correct its path in the manifest.") from None
    except OSError as error:
        raise DataFault(f"{path} cannot be read: {error.strerror}.", "Let the publishing user read it.") from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != after.st_size:
        raise IntegrityError(f"{path} changed while it was read.", "Publish when nothing writes to it any more.")
    return FileDigest(digest.hexdigest(), size, BLOCK_SIZE, bytes(blocks), BLOCK_ALGORITHM, after.st_mtime_ns)


def hash_files(
    jobs: Sequence[HashJob], workers: int = 0, progress: Callable[[int], None] | None = None
) -> Iterator[tuple[HashJob, FileDigest | DataFault | FileMissing | IntegrityError]]:
    """Hash files in ``workers`` threads (0: one per core) and yield each as it is done.

    The largest come first, so that no core waits for one long file at the end. A file that cannot be
    hashed is yielded with its error; the others go on. ``progress`` is called from the threads with
    the bytes just read. Leaving the loop early stops the threads within one piece.
    """
    stop = threading.Event()

    def passed(count: int) -> None:
        if stop.is_set():
            raise _Stopped
        if progress:
            progress(count)

    waiting = sorted(jobs, key=lambda job: job.size)
    width = workers or usable_cores()
    with ThreadPoolExecutor(width, thread_name_prefix="hash") as pool:
        try:
            yield from _run(pool, width, waiting, passed)
        finally:
            stop.set()


def usable_cores() -> int:
    """Cores this process may run on, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Stopped(Exception):
    """The caller has left; a thread ends its file here."""


def _run(
    pool: ThreadPoolExecutor, width: int, waiting: list[HashJob], passed: Callable[[int], None]
) -> Iterator[tuple[HashJob, FileDigest | DataFault | FileMissing | IntegrityError]]:
    running: dict[Future[FileDigest], HashJob] = {}
    while waiting or running:
        while waiting and len(running) < width * 4:
            job = waiting.pop()
            running[pool.submit(hash_file, job.path, job.observers, passed)] = job
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            job = running.pop(future)
            try:
                yield job, future.result()
            except (DataFault, FileMissing, IntegrityError) as error:
                yield job, error


_buffers = threading.local()


def _pieces(readinto: Callable[[memoryview], int | None]) -> Iterator[memoryview]:
    if not hasattr(_buffers, "view"):
        # One buffer per thread: thousands of small files would otherwise each pay for clearing a megabyte.
        _buffers.view = memoryview(bytearray(READ_SIZE))
    view: memoryview = _buffers.view
    filled = 0
    while True:
        count = readinto(view[filled:]) or 0
        filled += count
        if not count or filled == READ_SIZE:
            if filled:
                yield view[:filled]
            filled = 0
        if not count:
            return
