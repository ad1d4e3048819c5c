"""Fetch one range of a file, or all of it, and refuse bytes that are not those asked for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import BinaryIO, TypeVar

import httpx

from portal.client.api import Portal
from portal.client.bulk import Told
from portal.errors import IntegrityError, PortalError, Unavailable

PIECE = 1 << 20
TRIES = 3
FIRST_WAIT = 0.5
"""Seconds before a part is asked for again; each further time twice as long."""
WORTH_REPEATING = {408, 429}
"""Refusals that may pass by; any other one below 500 stays what it is."""
T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """One file to fetch: where from, where to, and what is known of it."""

    url: str
    target: Path
    size: int | None
    sha256: str | None
    version: str | None = None
    """What its server calls these bytes (ETag or date), where no sha256 is known."""
    fetched_sha256: str | None = None
    """What an earlier download of the same address got, where no sha256 is known: other bytes here are damage."""


class RangeFetcher:
    """Writes bytes of one file where they belong; used by several threads."""

    def __init__(self, portal: Portal, wanted: Wanted, advance: Callable[[int], None]) -> None:
        self.fetched = 0
        """Bytes that came and stay."""
        self.ranged = True
        """False once its server sent the whole file where a range was asked for."""
        self._portal = portal
        self._wanted = wanted
        self._advance = advance
        self._lock = threading.Lock()
        self._led_to: str | None = None
        """Where the portal sent us for this file: asked directly from then on, until it refuses."""

    def fetch_range(self, part: Path, offset: int, buffer: memoryview) -> bool:
        """Fetch one range as long as ``buffer`` into it, and to its place in ``part`` on the disk; False when its server
        sends whole files alone."""
        return self.ranged and self._again(partial(self._fetch_range, part, offset, buffer))

    def fetch_whole(self, part: Path) -> None:
        """Fetch everything from the begin."""
        self._again(partial(self._fetch_whole, part))

    def _again(self, fetch: Callable[[], T]) -> T:
        """What ``fetch`` returns, tried a few times while its server breaks off."""
        for attempt in range(TRIES - 1):
            try:
                return fetch()
            except Unavailable as error:
                # A signed address is good for a while only: whoever made it is asked for another.
                was_led, self._led_to = self._led_to is not None, None
                if is_final(error) and not was_led:
                    raise
                if not is_final(error):
                    time.sleep(FIRST_WAIT * 2**attempt)
        return fetch()

    @contextmanager
    def _open(self, headers: dict[str, str] | None = None) -> Iterator[httpx.Response]:
        with self._portal.open_url(self._led_to or self._wanted.url, headers) as answer:
            if self._portal.points_elsewhere(self._wanted.url, str(answer.url)):
                self._led_to = str(answer.url)
            yield answer

    def _fetch_range(self, path: Path, offset: int, buffer: memoryview) -> bool:
        headers, length = {"Range": f"bytes={offset}-{offset + len(buffer) - 1}"}, len(buffer)
        accept = partial(self._accept, offset, length)
        passed = _Passed(self._advance)
        try:
            if self._led_to and self._portal.receives(self._led_to):
                filled, more = self._portal.receive(self._led_to, headers, accept, buffer, passed)
            else:
                filled, more = self._receive(headers, accept, buffer, passed)
            if not self.ranged:
                return False
            if more:
                raise self._too_long()
            if filled != length:
                raise self._cut_short(filled, length)
            with path.open("r+b", buffering=0) as part:
                _write_at(part.fileno(), buffer, offset)
                sync(part)
        except BaseException:
            passed.take_back()  # all of it is asked for again
            raise
        with self._lock:
            self.fetched += length
        return True

    def _receive(
        self, headers: dict[str, str], accept: Callable[[Told], bool], buffer: memoryview, passed: Callable[[int], None]
    ) -> tuple[int, bool]:
        """The same from the portal, or through a proxy."""
        with self._open(headers) as answer:
            filled = 0
            if not accept(Told(answer.status_code, answer.headers)):
                return 0, False
            for piece in answer.iter_raw():
                if filled + len(piece) > len(buffer):
                    return filled, True
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
                passed(len(piece))
            return filled, False

    def _accept(self, offset: int, length: int, told: Told) -> bool:
        """Whether the answer's bytes are those asked for; False where its server sends whole files alone."""
        if told.status_code != 206 and length != self._wanted.size:
            self.ranged = False
            return False
        self._check(told, offset)
        return True

    def _fetch_whole(self, path: Path) -> None:
        with self._open() as answer, path.open("wb") as part:
            self._check(answer, 0)
            told = answer.headers.get("content-length", "")
            self._write(answer.iter_raw(), part, self._wanted.size, int(told) if told.isdigit() else None)

    def _check(self, answer: httpx.Response | Told, offset: int) -> None:
        """Refuse bytes that are not those asked for."""
        url = self._wanted.url
        sent = answer.headers.get("content-range", "")
        if answer.status_code == 206 and not sent.startswith(f"bytes {offset}-"):
            raise IntegrityError(
                f"{url} was asked for bytes from {offset:,} and sends {sent[:50]!r}.",
                "Report it to the operator of that server.",
            )
        if self._wanted.version is not None and version_of(answer) not in (None, self._wanted.version):
            raise IntegrityError(f"{url} changed while it was fetched.", "Run the command again to fetch it anew.")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise IntegrityError(
                f"{url} sends compressed bytes although the plain ones were asked for.",
                "Report it to the operator of that server.",
            )

    def _write(self, pieces: Iterable[bytes], part: BinaryIO, published: int | None, told: int | None) -> None:
        """Write what arrives, to the disk; Unavailable when it ends early, IntegrityError when it goes on for too long."""
        # Pieces as they come: joining them to larger ones first would cost a quarter of the client's time.
        expected = told if published is None else published
        written = 0
        try:
            for piece in pieces:
                if published is not None and written + len(piece) > published:
                    raise self._too_long()
                part.write(piece)
                written += len(piece)
                self._advance(len(piece))
            if expected is not None and written != expected:
                raise self._cut_short(written, expected)
            sync(part)
        except BaseException:
            self._advance(-written)  # all of it is asked for again
            raise
        with self._lock:
            self.fetched += written

    def _too_long(self) -> IntegrityError:
        return IntegrityError(
            f"{self._wanted.url} sends more bytes than the portal published.", "Report it to the portal's operator."
        )

    def _cut_short(self, written: int, expected: int) -> Unavailable:
        return Unavailable(
            f"{self._wanted.url} ended after {written:,} of {expected:,} bytes.", "Run the command again; it resumes."
        )


class _Passed:
    """Tells of bytes that came, and remembers how many."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._count = 0

    def __call__(self, count: int) -> None:
        self._count += count
        self._advance(count)

    def take_back(self) -> None:
        self._advance(-self._count)


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while len(data):
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def is_final(error: PortalError) -> bool:
    """Whether asking again would be answered alike: the server refused this one file."""
    if not isinstance(error, Unavailable):
        return True
    answered = error.extra.get("answered")
    return isinstance(answered, int) and answered < 500 and answered not in WORTH_REPEATING


def version_of(answer: httpx.Response | Told) -> str | None:
    """What a server calls the bytes it sends: their ETag, or else their date."""
    found = answer.headers.get("etag") or answer.headers.get("last-modified")
    return str(found) if found else None


def sync(file: BinaryIO | FileIO) -> None:
    """Wait until what was written is on the disk: what is noted as finished must survive a power cut."""
    file.flush()
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(file.fileno())
