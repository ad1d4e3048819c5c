"""Send files to a portal: what it has is skipped, what broke off goes on where the portal says, several at a time."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import httpx

from portal.client.api import Portal
from portal.errors import DataFault, FileMissing, IntegrityError, PortalError, Unavailable

TRIES = 12
"""Failures in a row, none of which brought a byte further, before a file is given up: about four minutes."""
FIRST_WAIT = 0.25
LONGEST_WAIT = 30.0
BUFFER = 1 << 20
ASKED_FIRST = 8 << 20
"""Bytes from which on the portal is asked whether it takes them before they are sent."""
FINISHING_RATE = 20e6
"""Bytes a second at which a portal hashes and stores what came, at the least."""
PASSING = {"upload-busy", "offset-mismatch", "too-slow"}
PASSING_STATES = {408, 425, 429, 500, 502, 503, 504}

Told = Callable[[int], None]


@dataclass(frozen=True)
class LocalFile:
    """A file that is to be sent."""

    place: Path
    sha256: str
    size: int


def upload_blob(
    api: Portal, path: Path, sha256: str, size: int, progress: Told | None = None, tries: int = TRIES
) -> bool:
    """Send a file; False where the portal had it. ``progress`` is told bytes that are there, negative ones where some
    have to be sent again.

    A portal that is away, restarted or in trouble is waited for. Raises FileMissing and DataFault where the file is
    gone or not the one that was hashed, what the portal refuses for good, and Unavailable after ``tries`` failures
    without progress.
    """
    return _Upload(api, path, sha256, size, progress or _nobody).run(tries)


def upload_all(api: Portal, files: Sequence[LocalFile], workers: int = 4, progress: Told | None = None) -> None:
    """Send files, several at a time, the largest first; the first one that cannot be sent ends all."""
    ordered = sorted(files, key=lambda file: file.size, reverse=True)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="upload")
    try:
        running = [pool.submit(upload_blob, api, f.place, f.sha256, f.size, progress) for f in ordered]
        for future in wait(running, return_when=FIRST_EXCEPTION).done:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Upload:
    """One file on its way."""

    def __init__(self, api: Portal, path: Path, sha256: str, size: int, told: Told) -> None:
        self._api = api
        self._path = path
        self._address = f"/blobs/{sha256}"
        self._sha256 = sha256
        self._size = size
        self._told = told
        self._counted = 0
        """Bytes the caller was told of."""
        self._sent = self._spoilt = False

    def run(self, tries: int) -> bool:
        """Until the file is whole there; whether bytes of it travelled."""
        failures, furthest = 0, -1
        while True:
            try:
                received, done = self._look()
                if received > furthest:
                    failures, furthest = 0, received
                self._count(received)
                if done:
                    return self._sent
                if self._send(received):
                    return True
            except IntegrityError:
                self._check_own()
                furthest = -1
                if self._spoilt:
                    raise
                self._spoilt = True
            except PortalError as error:
                if not may_pass(error):
                    raise
                failures += 1
                if failures >= tries:
                    raise
                time.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failures - 1)) * random.uniform(0.5, 1.0))  # noqa: S311

    def _look(self) -> tuple[int, bool]:
        """Bytes the portal has, and whether that is all."""
        try:
            answer = self._api.request("HEAD", f"{self._address}?size={self._size}")
        except Unavailable as error:
            # An answer to HEAD has no words. What is refused there is refused to PUT as well, and told.
            if error.extra.get("answered") in PASSING_STATES or "answered" not in error.extra:
                raise
            return 0, False
        return _offset(answer), answer.headers.get("upload-complete") == "?1"

    def _send(self, offset: int) -> bool:
        """Everything from ``offset`` on; whether the file is whole there now."""
        if self._size - offset > ASKED_FIRST:
            # A refusal that comes while gigabytes are on their way may be lost with the connection.
            self._put(offset, b"", 0)
        self._sent = True
        answer = self._put(offset, self._read(offset), self._size - offset)
        done = answer.status_code in (200, 201)
        self._count(self._size if done else _offset(answer))
        return done

    def _put(self, offset: int, content: bytes | Iterator[bytes], length: int) -> httpx.Response:
        headers = {"Upload-Offset": str(offset), "Upload-Length": str(self._size), "Content-Length": str(length)}
        patience = 120 + self._size / FINISHING_RATE
        return self._api.request("PUT", self._address, content, headers, patience)

    def _read(self, offset: int) -> Iterator[bytes]:
        try:
            with self._path.open("rb", buffering=0) as stream:
                stream.seek(offset)
                left = self._size - offset
                while left:
                    piece = stream.read(min(BUFFER, left))
                    if not piece:
                        raise self._changed()
                    yield piece
                    left -= len(piece)
                    self._count(self._size - left)
        except OSError as error:
            raise FileMissing(f"{self._path} cannot be read: {error.strerror}.", "Publish again.") from None

    def _count(self, now: int) -> None:
        if now != self._counted:
            self._told(now - self._counted)
            self._counted = now

    def _check_own(self) -> None:
        """Whether it is this file that is another one now."""
        with self._path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != self._sha256:
                raise self._changed()

    def _changed(self) -> DataFault:
        return DataFault(f"{self._path} changed while it was sent.", "Publish when nothing writes to it any more.")


def _offset(answer: httpx.Response) -> int:
    told = answer.headers.get("upload-offset", "")
    if not told.isdigit():
        raise Unavailable(f"{answer.url} does not tell how far the upload is.", "Is this the address of a portal?")
    return int(told)


def may_pass(error: PortalError) -> bool:
    if isinstance(error, Unavailable):
        answered = error.extra.get("answered")
        return not error.extra.get("moved") and (answered is None or answered in PASSING_STATES)
    return error.code in PASSING or error.status in PASSING_STATES


def _nobody(_count: int) -> None:
    """Tell nobody."""
