"""The sha256 of a file whose parts arrive in any order, taken while others are still on their way."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path

READ = 256 << 10
"""Bytes read at once: as many as stay in a processor's own cache between reading and hashing."""


class RunningDigest:
    """Hashes from the first byte on as far as there is no gap; safe to use from several threads."""

    def __init__(self, path: Path, size: int, part: int) -> None:
        self._path = path
        self._size = size
        self._part = part
        self._digest = hashlib.sha256()
        self._buffer = memoryview(bytearray(READ))
        self._here: set[int] = set()
        self._next = 0
        self._hashing = False
        self._lock = threading.Lock()

    def begin(self, here: Collection[int]) -> None:
        """Parts that an earlier attempt brought; they are read from the file when it is their turn."""
        with self._lock:
            self._here.update(here)

    def arrived(self, k: int, data: memoryview) -> None:
        """Part ``k`` is in the file, and ``data`` are its bytes: hash what has no gap before it, unless another thread does."""
        with self._lock:
            self._here.add(k)
            if self._hashing or self._next not in self._here:
                return
            self._hashing = True
        while True:
            self._digest.update(data) if self._next == k else self._from_file(self._next)
            with self._lock:
                self._next += 1
                self._hashing = self._next in self._here
                if not self._hashing:
                    return

    def finish(self, advance: Callable[[int], None]) -> tuple[str, int]:
        """The sha256 in hex and the size, once all parts are here and no thread adds any more."""
        advance(min(self._next * self._part, self._size))
        while self._next * self._part < self._size:
            self._from_file(self._next)
            advance(min(self._part, self._size - self._next * self._part))
            self._next += 1
        return self._digest.hexdigest(), self._size

    def _from_file(self, k: int) -> None:
        at, end = k * self._part, min((k + 1) * self._part, self._size)
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            while at < end:
                count = os.preadv(descriptor, [self._buffer[: end - at]], at)
                if not count:
                    return  # it was cut short under us: the digest will differ
                self._digest.update(self._buffer[:count])
                at += count
        finally:
            os.close(descriptor)
