"""Descriptors of files that are read often, kept open and never lent to a file that took their place."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from portal.errors import DataFault, FileMissing


@dataclass
class _Kept:
    descriptor: int
    readers: int = 0
    retired: bool = False


class Descriptors:
    """At most ``limit`` idle descriptors; the one used longest ago is closed first.

    A descriptor belongs to one state of a file (device, inode, size, mtime), so a replaced file is
    opened anew. One that is in use is never closed: its number could otherwise be given to another
    file in the middle of a read.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int, int, int], _Kept] = OrderedDict()

    @contextmanager
    def lend(self, path: str | Path, found: os.stat_result) -> Iterator[int]:
        """A descriptor of ``path`` as ``found`` describes it, valid inside the block."""
        key = (os.fspath(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        kept = self._take(key, path)
        try:
            yield kept.descriptor
        finally:
            self._give_back(kept)

    def __len__(self) -> int:
        return len(self._kept)

    def _take(self, key: tuple[str, int, int, int, int], path: str | Path) -> _Kept:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = _Kept(_open(path))
            self._kept.move_to_end(key)
            kept.readers += 1
            while len(self._kept) > self._limit:
                self._retire(self._kept.popitem(last=False)[1])
            return kept

    def _give_back(self, kept: _Kept) -> None:
        with self._lock:
            kept.readers -= 1
            if kept.retired and not kept.readers:
                os.close(kept.descriptor)

    def _retire(self, kept: _Kept) -> None:
        kept.retired = True
        if not kept.readers:
            os.close(kept.descriptor)


def _open(path: str | Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FileMissing(
            f"{path} is not there.", "Restore it, or publish the run again from where it lies now."
        ) from None
    except OSError as error:
        raise DataFault(f"{path} cannot be opened: {error.strerror}.", "Let the portal's user read it.") from None
