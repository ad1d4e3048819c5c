"""Verified files by their sha256, shared by all attempts of a worker, and bounded.

An attempt holds files by hard links of its own, so whatever the cache drops stays with those who use it, and a file
that somebody uses is told by its number of links.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from portal.client.partial import digest_of

GIB = 1 << 30
DEFAULT_BYTES = 100 * GIB


class FileCache:
    """The files below ``folder``; at most ``limit`` bytes of them stay when nobody uses them."""

    def __init__(self, folder: Path, limit: int = DEFAULT_BYTES) -> None:
        self._files = folder / "sha256"
        self._limit = limit

    def take(self, sha256: str, size: int | None, target: Path) -> bool:
        """Give the file to ``target``, verified; False when it is not here. A damaged one is dropped."""
        kept = self._path(sha256)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            _link(kept, target)
            os.utime(kept)
        except FileNotFoundError:
            return False
        found, length = digest_of(target, lambda _: None)
        if found == sha256 and size in (None, length):
            return True
        target.unlink()
        kept.unlink(missing_ok=True)
        return False

    def keep(self, sha256: str, source: Path) -> None:
        """Remember a verified file for later attempts; the oldest unused ones go when there are too many."""
        kept = self._path(sha256)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _link(source, kept)
        self._shrink()

    def make_room(self, needed: int) -> None:
        """Drop unused files, the oldest first, until ``needed`` bytes are free on the disk or none is left."""
        for path, size in self._unused():
            if _free(self._files) >= needed:
                return
            with suppress(FileNotFoundError):
                path.unlink()
            del size

    def unused_bytes(self) -> int:
        """What would be given up for a job that needs the room."""
        return sum(size for _, size in self._unused())

    def _shrink(self) -> None:
        unused = list(self._unused())
        over = sum(size for _, size in unused) - self._limit
        for path, size in unused:
            if over <= 0:
                return
            with suppress(FileNotFoundError):
                path.unlink()
            over -= size

    def _unused(self) -> Iterator[tuple[Path, int]]:
        """Files that no attempt holds, the longest unused first."""
        found = []
        for path in self._files.glob("*/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                if status.st_nlink == 1:
                    found.append((status.st_mtime, path, status.st_size))
        for _, path, size in sorted(found):
            yield path, size

    def _path(self, sha256: str) -> Path:
        return self._files / sha256[:2] / sha256


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        part = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(source, part)
        part.replace(target)


def _free(folder: Path) -> int:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(existing).free
