"""Download files in parallel ranges, resumable after a kill, verified before they get their name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from portal.client.api import Portal
from portal.client.partial import Fetched, PartialFile, Wanted, version_of
from portal.errors import PortalError, TooLarge

SPARE = 64 << 20
"""Bytes that stay free on the disk."""


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


def download_all(
    portal: Portal, wanted: Sequence[Wanted], workers: int = 4, progress: DownloadProgress | None = None
) -> list[Fetched]:
    """Fetch every file that is not there yet; in the order of ``wanted``.

    Raises IntegrityError when bytes are not what the portal says they are (the bad file is removed),
    TooLarge when the disk cannot hold them. What was finished stays and is not fetched again.
    """
    told = progress or NoProgress()
    with ThreadPoolExecutor(workers) as pool:
        sized = _all(pool, [partial(_sized, portal, w) for w in wanted])
        files = [PartialFile(portal, w, told.advance) for w in sized]
        _check_disk(files)
        told.begin("download", sum(f.missing_bytes for f in files))
        for file in files:
            file.prepare()
        _all(pool, [task for f in files for task in f.tasks()])
        _all(pool, [f.fetch_in_one for f in files if not f.complete])
        told.begin("verify", sum(f.wanted.size or 0 for f in files))
        return _all(pool, [f.finish for f in files])


def _all(pool: ThreadPoolExecutor, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """What every task returns; the first failure is raised and nothing is started after it."""
    futures: list[Future[Any]] = [pool.submit(task) for task in tasks]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            if future.done():
                future.result()
        return [future.result() for future in futures]
    except BaseException:  # Ctrl-C as well: what runs ends its part, what waits is dropped
        for future in futures:
            future.cancel()
        raise


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
