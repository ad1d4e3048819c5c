"""Download files in parallel ranges, resumable after a kill, verified before they get their name.

Beside each unfinished file ``NAME`` lie ``NAME.part`` (its bytes) and ``NAME.parts`` (one line naming
what is fetched, then 4 bytes for every finished part). A part is noted after its bytes were
written, so what is noted is never fetched again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from portal.client.api import Portal
from portal.errors import IntegrityError, TooLarge, Unavailable

PART = 8 << 20
"""Bytes of one range request; also the unit in which a download resumes."""
PIECE = 1 << 20
SPARE = 64 << 20
"""Bytes that stay free on the disk."""
TRIES = 3


class DownloadProgress(Protocol):
    """What a caller is told; `advance` comes from several threads."""

    def begin(self, phase: str, total_bytes: int) -> None:
        """A phase starts."""

    def advance(self, count: int) -> None:
        """Bytes just done in this phase."""


@dataclass(frozen=True)
class Wanted:
    """One file to fetch: where from, where to, and what is known of it."""

    url: str
    target: Path
    size: int | None
    sha256: str | None


@dataclass
class Fetched:
    """What became of one file."""

    wanted: Wanted
    size: int
    sha256: str
    verified: bool
    """True when the portal knew its sha256 and it is this one."""
    fetched_bytes: int = 0


class NoProgress:
    """Tells nobody."""

    def begin(self, phase: str, total_bytes: int) -> None:
        """Say nothing."""

    def advance(self, count: int) -> None:
        """Say nothing."""


def download_all(
    portal: Portal, wanted: Sequence[Wanted], workers: int = 4, progress: DownloadProgress | None = None
) -> list[Fetched]:
    """Fetch every file that is not there yet; in the order of ``wanted``.

    Raises IntegrityError when bytes are not what the portal says they are (the bad file is removed),
    TooLarge when the disk cannot hold them. What was finished stays and is not fetched again.
    """
    told = progress or NoProgress()
    sized = [
        w if w.size is not None else Wanted(w.url, w.target, _remote_size(portal, w.url), w.sha256) for w in wanted
    ]
    downloads = [_Download(portal, w, told) for w in sized]
    _check_disk(downloads)
    told.begin("download", sum(d.missing_bytes for d in downloads))
    with ThreadPoolExecutor(workers) as pool:
        tasks = [pool.submit(task) for d in downloads for task in d.tasks()]
        _wait(tasks)
        told.begin("verify", sum(d.wanted.size or 0 for d in downloads))
        finished = [pool.submit(d.finish) for d in downloads]
        _wait(finished)
    return [f.result() for f in finished]


@dataclass
class _Download:
    """One file on its way."""

    portal: Portal
    wanted: Wanted
    progress: DownloadProgress
    done: set[int] = field(default_factory=set)
    fetched: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.part = self.wanted.target.with_name(self.wanted.target.name + ".part")
        self.journal = self.wanted.target.with_name(self.wanted.target.name + ".parts")
        self.present = self.wanted.target.is_file() and (
            self.wanted.size is None or self.wanted.target.stat().st_size == self.wanted.size
        )
        if not self.present:
            self._resume()

    @property
    def missing_bytes(self) -> int:
        """Bytes still to fetch, as far as sizes are known."""
        if self.present or self.wanted.size is None:
            return 0
        return sum(self._length(k) for k in range(self._parts()) if k not in self.done)

    def tasks(self) -> list[Callable[[], None]]:
        """One callable for each missing part."""
        if self.present:
            return []
        if self.wanted.size is None:
            return [self._fetch_whole]
        return [partial(self._fetch, k) for k in range(self._parts()) if k not in self.done]

    def finish(self) -> Fetched:
        """Verify and give the file its name."""
        found = self.wanted.target if self.present else self.part
        digest, size = _digest(found, self.progress)
        if self.wanted.sha256 is not None and digest != self.wanted.sha256:
            found.unlink()
            self.journal.unlink(missing_ok=True)
            raise IntegrityError(
                f"{self.wanted.target.name} does not have the sha256 {self.wanted.sha256[:16]}… the portal published; it has {digest[:16]}….",
                "The bad file was removed; run the command again to fetch it anew.",
            )
        if not self.present:
            _sync(self.part)
            self.part.replace(self.wanted.target)
            self.journal.unlink(missing_ok=True)
        return Fetched(self.wanted, size, digest, self.wanted.sha256 is not None, self.fetched)

    def _resume(self) -> None:
        self.part.parent.mkdir(parents=True, exist_ok=True)
        head = json.dumps([self.wanted.sha256 or self.wanted.url, self.wanted.size, PART]).encode() + b"\n"
        noted = self.journal.read_bytes() if self.journal.exists() and self.part.exists() else b""
        if noted.startswith(head) and self.wanted.size is not None:
            body = noted[len(head) :]
            self.done = {k for (k,) in struct.iter_unpack("<I", body[: len(body) // 4 * 4]) if k < self._parts()}
            # A kill can leave half an entry; what follows it would be misread.
            self.journal.write_bytes(head + b"".join(struct.pack("<I", k) for k in sorted(self.done)))
            return
        self.part.write_bytes(b"")
        if self.wanted.size is not None:
            os.truncate(self.part, self.wanted.size)
        self.journal.write_bytes(head)

    def _parts(self) -> int:
        return -(-(self.wanted.size or 0) // PART)

    def _length(self, k: int) -> int:
        return min(PART, (self.wanted.size or 0) - k * PART)

    def _fetch(self, k: int) -> None:
        for attempt in range(TRIES):
            try:
                self._fetch_range(k * PART, self._length(k))
                break
            except Unavailable:
                if attempt == TRIES - 1:
                    raise
        with self._lock, self.journal.open("ab") as journal:
            journal.write(struct.pack("<I", k))

    def _fetch_range(self, offset: int, length: int) -> None:
        headers = {"Range": f"bytes={offset}-{offset + length - 1}"}
        with self.portal.open_url(self.wanted.url, headers) as answer, self.part.open("r+b") as part:
            if answer.status_code != 206 and not (offset == 0 and length == self.wanted.size):
                raise IntegrityError(
                    f"{self.wanted.url} does not serve ranges.", "Fetch this file with another client."
                )
            part.seek(offset)
            written = self._write(answer.iter_raw(PIECE), part, length)
        if written != length:
            raise Unavailable(
                f"{self.wanted.url} ended after {offset + written:,} of {self.wanted.size:,} bytes.",
                "Run the command again; it resumes.",
            )

    def _fetch_whole(self) -> None:
        with self.portal.open_url(self.wanted.url) as answer, self.part.open("wb") as part:
            self._write(answer.iter_raw(PIECE), part, None)

    def _write(self, pieces: Iterable[bytes], part: BinaryIO, limit: int | None) -> int:
        written = 0
        for piece in pieces:
            if limit is not None and written + len(piece) > limit:
                raise IntegrityError(
                    f"{self.wanted.url} sends more bytes than the portal published.",
                    "Report it to the portal's operator.",
                )
            part.write(piece)
            written += len(piece)
            self.progress.advance(len(piece))
        with self._lock:
            self.fetched += written
        return written


def _remote_size(portal: Portal, url: str) -> int | None:
    with portal.open_url(url, method="HEAD") as answer:
        length = answer.headers.get("content-length", "")
        ranged = answer.headers.get("accept-ranges") == "bytes"
    return int(length) if ranged and length.isdigit() else None


def _check_disk(downloads: Sequence[_Download]) -> None:
    for download in downloads[:1]:
        free = shutil.disk_usage(download.part.parent if download.part.parent.exists() else Path.cwd()).free
        needed = sum(d.missing_bytes for d in downloads)
        if needed + SPARE > free:
            raise TooLarge(
                f"The pair needs {needed:,} more bytes; {free:,} are free.",
                "Free some space, choose fewer --parts, or another --to.",
            )


def _digest(path: Path, progress: DownloadProgress) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
            progress.advance(len(piece))
    return digest.hexdigest(), size


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _wait(futures: Sequence[Future[Any]]) -> None:
    """Raise the first failure and start nothing that has not begun."""
    failed: BaseException | None = None
    for future in futures:
        if failed is not None:
            future.cancel()
            continue
        failed = future.exception()
    if failed is not None:
        raise failed
