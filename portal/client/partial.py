"""One file on its way: its parts, and the journal of those that are here.

Beside an unfinished file ``NAME`` lie ``NAME.part`` (its bytes) and ``NAME.parts`` (one line naming
what is fetched, then 4 bytes for every finished part). A part is noted after its bytes are on the
disk, so what is noted is not fetched again, after a kill or a power cut.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from portal.client.api import Portal
from portal.client.blocks import sound_parts
from portal.client.ranges import PIECE, RangeFetcher, Wanted
from portal.client.running import RunningDigest
from portal.errors import IntegrityError

PART = 8 << 20
"""Bytes of one range request; also the unit in which a download resumes, and that of the portal's block digests."""
UNFINISHED = (".part", ".parts")
"""What is appended to the name of a file on its way."""


@dataclass(frozen=True)
class Fetched:
    """What became of one file."""

    wanted: Wanted
    size: int
    sha256: str
    verified: bool
    """True when the portal knew its sha256 and it is this one."""
    fetched_bytes: int = 0


class PartialFile:
    """A file that is fetched part by part, by several threads."""

    def __init__(self, portal: Portal, wanted: Wanted, advance: Callable[[int], None]) -> None:
        self.wanted = wanted
        self.fetched: Fetched | None = None
        """What became of it, once its bytes are those that were published."""
        self.damaged = False
        """True when bytes that were here before are not those that were published."""
        self._portal = portal
        self._advance = advance
        self._ranges = RangeFetcher(portal, wanted, advance)
        self._lock = threading.Lock()
        self._part, self._journal = (wanted.target.with_name(wanted.target.name + end) for end in UNFINISHED)
        self._head = json.dumps([wanted.sha256 or [wanted.url, wanted.version], wanted.size, PART]).encode() + b"\n"
        self._whole = False
        self._digest: RunningDigest | None = None
        self._present = wanted.target.is_file() and wanted.size in (None, wanted.target.stat().st_size)
        self._done = set() if self._present else self._noted()
        self._reused = self._present or bool(self._done)
        if wanted.target.is_file() and not self._present and not self._done:
            self.damaged = wanted.sha256 is not None  # cut short or grown: some of its parts may be sound

    @property
    def missing_bytes(self) -> int:
        """Bytes still to fetch, as far as sizes are known."""
        if self._present:
            return 0
        # Counted from what is here: a size that nobody could store must not be listed part by part.
        return (self.wanted.size or 0) - sum(self._length(k) for k in self._done)

    @property
    def complete(self) -> bool:
        """True when every byte is here, not yet verified."""
        return self._present or self._whole or (self.wanted.size is not None and len(self._done) == self._parts())

    def prepare(self) -> None:
        """Make room for the parts, and keep those that an earlier attempt noted."""
        if self._present or self.damaged:
            return
        self._part.parent.mkdir(parents=True, exist_ok=True)
        if not self._done:
            self._part.write_bytes(b"")
        if not self._part.is_file() or self._part.stat().st_size != (self.wanted.size or 0):
            os.truncate(self._part, self.wanted.size or 0)
        # A kill can leave half an entry; what followed it would be misread.
        self._digest = RunningDigest(self._part, self.wanted.size, PART) if self.wanted.size is not None else None
        if self._digest:
            self._digest.begin(self._done)
        self._journal.write_bytes(self._head + b"".join(struct.pack("<I", k) for k in sorted(self._done)))

    def tasks(self) -> list[Callable[[], None]]:
        """One callable for each missing part; none where the size is not known."""
        return [] if self._present else [partial(self._fetch, k) for k in self._missing()]

    def fetch_in_one(self) -> None:
        """Fetch the file from its begin to its end, from a server that does not serve ranges."""
        self._ranges.fetch_whole(self._part)
        self._whole = True

    def check(self) -> None:
        """Verify, and give the file its name; where bytes of an earlier attempt are in it, it may be ``damaged``.

        Raises IntegrityError, and removes the file, when all of it was fetched just now and is not what was published.
        """
        found = self.wanted.target if self._present else self._part
        running = None if self._present or self._whole else self._digest
        digest, size = running.finish(self._advance) if running else digest_of(found, self._advance)
        expected = self.wanted.sha256 or (self.wanted.fetched_sha256 if self._reused else None)
        self.damaged = expected not in (None, digest) and self._reused
        if self.damaged:
            return
        published = self.wanted.sha256
        if published is not None and digest != published:
            found.unlink()
            self._journal.unlink(missing_ok=True)
            raise IntegrityError(
                f"{self.wanted.target.name} does not have the sha256 {published[:16]}… the portal published;"
                f" it has {digest[:16]}….",
                "The bad file was removed; run the command again to fetch it anew.",
                published=published,
                found=digest,
            )
        if not self._present:
            _sync(self._part)
            self._part.replace(self.wanted.target)
            self._journal.unlink(missing_ok=True)
        self.fetched = Fetched(self.wanted, size, digest, published is not None, self._ranges.fetched)

    def take_apart(self) -> None:
        """Make an unfinished file of a damaged one: parts whose block digests still fit stay, the others are missing."""
        if not self._done:
            self.wanted.target.replace(self._part)
        sound: set[int] = set()
        if self.wanted.sha256 is not None and self.wanted.size is not None:
            sound = sound_parts(self._portal, self._part, self.wanted.sha256, PART)
        self._present = self._whole = self._reused = self.damaged = False
        self._done = {k for k in sound if k < self._parts()}
        self.prepare()

    def _noted(self) -> set[int]:
        """Parts that an earlier attempt at the same file finished."""
        known = self.wanted.sha256 or self.wanted.version  # else nothing tells whether these are the same bytes
        if self.wanted.size is None or not (known and self._journal.is_file() and self._part.is_file()):
            return set()
        noted = self._journal.read_bytes()
        if not noted.startswith(self._head) or self._part.stat().st_size != self.wanted.size:
            return set()
        body = noted[len(self._head) :]
        return {k for (k,) in struct.iter_unpack("<I", body[: len(body) // 4 * 4]) if k < self._parts()}

    def _missing(self) -> list[int]:
        return [k for k in range(self._parts()) if k not in self._done]

    def _parts(self) -> int:
        return -(-(self.wanted.size or 0) // PART)

    def _length(self, k: int) -> int:
        return min(PART, (self.wanted.size or 0) - k * PART)

    def _fetch(self, k: int) -> None:
        data = _buffer(self._length(k))
        if not self._ranges.fetch_range(self._part, k * PART, data):
            return
        with self._lock, self._journal.open("ab") as journal:
            journal.write(struct.pack("<I", k))
            self._done.add(k)
        if self._digest:
            self._digest.arrived(k, data)


def digest_of(path: Path, advance: Callable[[int], None]) -> tuple[str, int]:
    """The sha256 of a file in hex, and its size."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
            advance(len(piece))
    return digest.hexdigest(), size


_buffers = threading.local()


def _buffer(size: int) -> memoryview:
    """Memory for one part, kept by its thread: every part would otherwise pay for clearing it."""
    if len(getattr(_buffers, "held", b"")) < size:
        _buffers.held = bytearray(size)
    return memoryview(_buffers.held)[:size]


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
