"""Verified blocks of files elsewhere, kept in a folder of bounded size that several processes share."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from portal.errors import IntegrityError
from portal.storage.hashing import BLOCK_DIGEST_BYTES

ABANDONED_S = 3600
ENDING = ".block"


@dataclass(frozen=True)
class KnownBlocks:
    """The digests of one file's blocks, as they were taken when it was hashed."""

    sha256: str
    size: int
    block_size: int
    digests: bytes
    """32 bytes (BLAKE3) a block, in order."""

    def bounds(self, index: int) -> tuple[int, int]:
        """(offset, length) of a block; the last may be short."""
        offset = index * self.block_size
        return offset, min(self.block_size, self.size - offset)

    def covering(self, offset: int, length: int) -> range:
        """The blocks that a range touches."""
        return range(offset // self.block_size, -(-(offset + length) // self.block_size)) if length else range(0)

    def is_sound(self, index: int, data: bytes) -> bool:
        """Whether ``data`` is the block that was hashed."""
        at = index * BLOCK_DIGEST_BYTES
        return blake3(data).digest() == self.digests[at : at + BLOCK_DIGEST_BYTES]

    def check(self) -> None:
        """IntegrityError where the digests cannot be those of a file of this size."""
        blocks = -(-self.size // self.block_size) if self.block_size > 0 else -1
        if len(self.digests) != blocks * BLOCK_DIGEST_BYTES:
            raise IntegrityError(
                f"The catalogued block digests of {self.sha256} do not fit its size.", "Publish the file again."
            )


class BlockCache:
    """Blocks by the sha256 of their file and their number; what was used longest ago goes first."""

    def __init__(self, folder: Path, limit: int, reserve: int = 0) -> None:
        """``reserve``: bytes that are left free on the disk, whatever ``limit`` says."""
        self._folder = folder
        self._limit = limit
        self._reserve = reserve

    def get(self, known: KnownBlocks, index: int) -> bytes | None:
        """A block, compared with its digest again; one that was damaged here is removed and None."""
        path = self._path(known, index)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if not known.is_sound(index, data):
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)
        return data

    def put(self, known: KnownBlocks, index: int, data: bytes) -> None:
        """Keep a verified block, in place whole or not at all; a full disk only means that it is not kept."""
        if len(data) > self._limit:
            return
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self._folder).free - len(data) < self._reserve:
                return
            self._make_room(len(data))
            handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(data)
                os.replace(temporary, self._path(known, index))
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise

    def _path(self, known: KnownBlocks, index: int) -> Path:
        return self._folder / f"{known.sha256}.{index}{ENDING}"

    def _make_room(self, wanted: int) -> None:
        held: list[tuple[int, int, str]] = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                # Another process may be a step ahead with removing it.
                with suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    if entry.name.endswith(ENDING):
                        held.append((about.st_mtime_ns, about.st_size, entry.path))
                    elif time.time() - about.st_mtime > ABANDONED_S:
                        os.unlink(entry.path)
        taken = sum(size for _, size, _ in held) + wanted
        for _, size, path in sorted(held):
            if taken <= self._limit:
                return
            Path(path).unlink(missing_ok=True)
            taken -= size
