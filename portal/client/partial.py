"""One file on its way: its parts, and the journal of those that are here.

Beside an unfinished file ``NAME`` lie ``NAME.part`` (its bytes) and ``NAME.parts`` (one line naming
what is fetched, then 4 bytes for every finished part). A part is noted after its bytes were
written, so what is noted is never fetched again.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import httpx

from portal.client.api import Portal
from portal.errors import IntegrityError, Unavailable

PART = 8 << 20
"""Bytes of one range request; also the unit in which a download resumes."""
PIECE = 1 << 20
TRIES = 3
FIRST_WAIT = 0.5
"""Seconds before a part is asked for again; each further time twice as long."""
T = TypeVar("T")
UNFINISHED = (".part", ".parts")
"""What is appended to the name of a file on its way."""


@dataclass(frozen=True)
class Wanted:
    """One file to fetch: where from, where to, and what is known of it."""

    url: str
    target: Path
    size: int | None
    sha256: str | None
    version: str | None = None
    """What its server calls these bytes (ETag or date), where no sha256 is known."""


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
        self._portal = portal
        self._advance = advance
        self._lock = threading.Lock()
        self._part, self._journal = (wanted.target.with_name(wanted.target.name + end) for end in UNFINISHED)
        self._head = json.dumps([wanted.sha256 or [wanted.url, wanted.version], wanted.size, PART]).encode() + b"\n"
        self._fetched = 0
        self._whole = False
        self._ranged = True
        self.present = wanted.target.is_file() and wanted.size in (None, wanted.target.stat().st_size)
        self._done = set() if self.present else self._noted()

    @property
    def missing_bytes(self) -> int:
        """Bytes still to fetch, as far as sizes are known."""
        if self.present:
            return 0
        # Counted from what is here: a size that nobody could store must not be listed part by part.
        return (self.wanted.size or 0) - sum(self._length(k) for k in self._done)

    @property
    def complete(self) -> bool:
        """True when every byte is here, not yet verified."""
        return self.present or self._whole or (self.wanted.size is not None and len(self._done) == self._parts())

    def prepare(self) -> None:
        """Make room for the parts, and keep those that an earlier attempt noted."""
        if self.present:
            return
        self._part.parent.mkdir(parents=True, exist_ok=True)
        if not self._done:
            self._part.write_bytes(b"")
            os.truncate(self._part, self.wanted.size or 0)
        # A kill can leave half an entry; what followed it would be misread.
        self._journal.write_bytes(self._head + b"".join(struct.pack("<I", k) for k in sorted(self._done)))

    def tasks(self) -> list[Callable[[], None]]:
        """One callable for each missing part; none where the size is not known."""
        return [] if self.present else [partial(self._fetch, k) for k in self._missing()]

    def fetch_in_one(self) -> None:
        """Fetch the file from its begin to its end, from a server that does not serve ranges."""
        self._again(self._fetch_whole)
        self._whole = True

    def finish(self) -> Fetched:
        """Verify and give the file its name; IntegrityError removes it."""
        found = self.wanted.target if self.present else self._part
        digest, size = digest_of(found, self._advance)
        if self.wanted.sha256 is not None and digest != self.wanted.sha256:
            found.unlink()
            self._journal.unlink(missing_ok=True)
            raise IntegrityError(
                f"{self.wanted.target.name} does not have the sha256 {self.wanted.sha256[:16]}… the portal published;"
                f" it has {digest[:16]}….",
                "The bad file was removed; run the command again to fetch it anew.",
            )
        if not self.present:
            _sync(self._part)
            self._part.replace(self.wanted.target)
            self._journal.unlink(missing_ok=True)
        return Fetched(self.wanted, size, digest, self.wanted.sha256 is not None, self._fetched)

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
        if not self._ranged or not self._again(partial(self._fetch_range, k * PART, self._length(k))):
            return
        with self._lock, self._journal.open("ab") as journal:
            journal.write(struct.pack("<I", k))
            self._done.add(k)

    def _again(self, fetch: Callable[[], T]) -> T:
        """What ``fetch`` returns, tried a few times while its server breaks off."""
        for attempt in range(TRIES - 1):
            try:
                return fetch()
            except Unavailable:
                time.sleep(FIRST_WAIT * 2**attempt)
        return fetch()

    def _fetch_range(self, offset: int, length: int) -> bool:
        """Fetch one range; False when its server sends whole files alone."""
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        with self._portal.open_url(self.wanted.url, headers) as answer:
            if answer.status_code != 206 and length != self.wanted.size:
                self._ranged = False
                return False
            self._check(answer, offset)
            with self._part.open("r+b") as part:
                part.seek(offset)
                self._write(answer.iter_raw(PIECE), part, length)
        return True

    def _fetch_whole(self) -> None:
        with self._portal.open_url(self.wanted.url) as answer, self._part.open("wb") as part:
            self._check(answer, 0)
            told = answer.headers.get("content-length", "")
            self._write(answer.iter_raw(PIECE), part, self.wanted.size, int(told) if told.isdigit() else None)

    def _check(self, answer: httpx.Response, offset: int) -> None:
        """Refuse bytes that are not those asked for."""
        sent = answer.headers.get("content-range", "")
        if answer.status_code == 206 and not sent.startswith(f"bytes {offset}-"):
            raise IntegrityError(
                f"{self.wanted.url} was asked for bytes from {offset:,} and sends {sent[:50]!r}.",
                "Report it to the operator of that server.",
            )
        version = version_of(answer)
        if self.wanted.version is not None and version not in (None, self.wanted.version):
            raise IntegrityError(
                f"{self.wanted.url} changed while it was fetched.", "Run the command again to fetch it anew."
            )
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise IntegrityError(
                f"{self.wanted.url} sends compressed bytes although the plain ones were asked for.",
                "Report it to the operator of that server.",
            )

    def _write(self, pieces: Iterable[bytes], part: BinaryIO, published: int | None, told: int | None = None) -> None:
        """Write what arrives; Unavailable when it ends early, IntegrityError when it goes on for too long."""
        expected = told if published is None else published
        written = 0
        try:
            for piece in pieces:
                if published is not None and written + len(piece) > published:
                    raise IntegrityError(
                        f"{self.wanted.url} sends more bytes than the portal published.",
                        "Report it to the portal's operator.",
                    )
                part.write(piece)
                written += len(piece)
                self._advance(len(piece))
            if expected is not None and written != expected:
                raise Unavailable(
                    f"{self.wanted.url} ended after {written:,} of {expected:,} bytes.",
                    "Run the command again; it resumes.",
                )
            if self.wanted.sha256 is None:
                # No digest would tell after a power cut that a noted part never reached the disk.
                part.flush()
                os.fsync(part.fileno())
        except BaseException:
            self._advance(-written)  # all of it is asked for again
            raise
        with self._lock:
            self._fetched += written


def version_of(answer: httpx.Response) -> str | None:
    """What a server calls the bytes it sends: their ETag, or else their date."""
    found = answer.headers.get("etag") or answer.headers.get("last-modified")
    return str(found) if found else None


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


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
