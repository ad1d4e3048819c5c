"""Download files in parallel ranges, resumable after a kill, verified before they get their name."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from portal.client.api import Portal
from portal.client.partial import Fetched, PartialFile
from portal.client.ranges import Wanted, is_final, version_of
from portal.errors import PortalError, TooLarge, Unavailable

T = TypeVar("T")
SPARE = 64 << 20
"""Bytes that stay free on the disk."""
GIVE_UP = 12
"""Files in a row whose server breaks off or stays silent; after that the others are not tried."""


class DownloadProgress(Protocol):
    """What a caller is told; `advance` comes from several threads."""

    def begin(self, phase: str, total_bytes: int) -> None:
        """A phase starts."""

    def advance(self, count: int) -> None:
        """Bytes just done in this phase; negative where some have to be fetched again."""


class NoProgress:
    """Tells nobody."""

    def begin(self, phase: str, total_bytes: int) -> None:
        """Say nothing."""

    def advance(self, count: int) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Failed:
    """A file that could not be had, and why."""

    wanted: Wanted
    error: PortalError


@dataclass(frozen=True)
class Downloads:
    """What became of all files, in the order they were wanted."""

    fetched: list[Fetched] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)


def download_all(
    portal: Portal, wanted: Sequence[Wanted], workers: int = 4, progress: DownloadProgress | None = None
) -> Downloads:
    """Fetch every file that is not there yet.

    A file that cannot be had, or whose bytes are not what the portal says they are (it is removed), is in
    ``failed`` and does not keep the others from being fetched. A file that was damaged here is repaired. What
    was finished stays and is not fetched again by the next call. Raises TooLarge when the disk cannot hold them.
    """
    told = progress or NoProgress()
    with ThreadPoolExecutor(workers) as pool:
        tasks = _Tasks(pool)
        files = [PartialFile(portal, w, told.advance) for w in tasks.map(partial(_sized, portal), wanted)]
        _check_disk(files)
        for file in files:
            file.prepare()
        _fetch(tasks, told, files, "download")
        _repair(tasks, told, files)
        return Downloads(
            [f.fetched for f in files if f.fetched],
            [Failed(f.wanted, tasks.errors[f]) for f in files if f in tasks.errors],
        )


def _fetch(tasks: _Tasks, told: DownloadProgress, files: Sequence[PartialFile], phase: str) -> None:
    whole = [f for f in files if not f.damaged]
    told.begin(phase, sum(f.missing_bytes for f in whole))
    tasks.each((f, task) for f in whole for task in f.tasks())
    tasks.each((f, f.fetch_in_one) for f in whole if f not in tasks.errors and not f.complete)
    complete = [f for f in whole if f not in tasks.errors]
    told.begin("verify", sum(f.wanted.size or 0 for f in complete))
    tasks.each((f, f.check) for f in complete)


def _repair(tasks: _Tasks, told: DownloadProgress, files: Sequence[PartialFile]) -> None:
    damaged = [f for f in files if f.damaged]
    if damaged:
        tasks.each((f, f.take_apart) for f in damaged)
        _fetch(tasks, told, damaged, "repair")


class _Tasks:
    """Runs tasks of files in parallel; the first error of a file is kept, and its other tasks are left out."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.errors: dict[PartialFile, PortalError] = {}
        self._pool = pool
        self._lock = threading.Lock()
        self._lost = 0

    def map(self, look: Callable[[Wanted], Wanted], wanted: Sequence[Wanted]) -> list[Wanted]:
        """What ``look`` returns for each."""
        return [f.result() for f in self._all([self._pool.submit(look, w) for w in wanted])]

    def each(self, tasks: Iterable[tuple[PartialFile, Callable[[], None]]]) -> None:
        """Run all; what no PortalError explains (a full disk, Ctrl-C) is raised and ends all of them."""
        for future in self._all([self._pool.submit(self._try, file, task) for file, task in tasks]):
            future.result()

    def _try(self, file: PartialFile, task: Callable[[], None]) -> None:
        if file in self.errors:
            return
        if self._lost >= GIVE_UP:
            self._note(file, Unavailable("Not tried, as its server had stopped answering.", "Try again later."))
            return
        try:
            task()
        except PortalError as error:
            self._note(file, error)
        else:
            self._lost = 0

    def _note(self, file: PartialFile, error: PortalError) -> None:
        with self._lock:
            if self.errors.setdefault(file, error) is error:
                self._lost = 0 if is_final(error) else self._lost + 1

    def _all(self, futures: Sequence[Future[T]]) -> Sequence[Future[T]]:
        """The futures when all are done; the first failure is raised and nothing is started after it."""
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:  # Ctrl-C as well: what runs ends its part, what waits is dropped
            for future in futures:
                future.cancel()
            raise
        return futures


def _sized(portal: Portal, wanted: Wanted) -> Wanted:
    """``wanted`` with what its server tells, where the portal does not know it.

    The size where ranges are served; and, where no digest would tell, the version of the bytes, so
    that parts of two versions are never joined.
    """
    if wanted.size is not None and wanted.sha256 is not None:
        return wanted
    try:
        with portal.open_url(wanted.url, method="HEAD") as answer:
            length = answer.headers.get("content-length", "")
            ranged = answer.headers.get("accept-ranges") == "bytes"
            version = version_of(answer) if wanted.sha256 is None else None
    except PortalError:  # a server may answer GET alone
        return wanted
    told = int(length) if ranged and length.isdigit() else None
    return replace(wanted, size=told if wanted.size is None else wanted.size, version=version)


def _check_disk(files: Sequence[PartialFile]) -> None:
    if not files:
        return
    folder = _existing(files[0].wanted.target)
    free, needed = shutil.disk_usage(folder).free, sum(f.missing_bytes for f in files)
    if needed + SPARE > free:
        raise TooLarge(
            f"{needed:,} more bytes are needed; {free:,} are free in {folder}.",
            "Free some space, choose fewer --parts, or another --to.",
        )


def _existing(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())
