"""Folders of attempts that nobody will ever take up again, removed when they are old enough."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from portal.worker.executors.identity import processes_of

DAY = 86_400.0
_log = logging.getLogger(__name__)


def remove_leftovers(attempts: Path, kept: Collection[Path], older_than: float) -> list[Path]:
    """Remove folders below ``attempts`` that are not among ``kept``, in which nothing runs, and in which nothing was
    written for ``older_than`` seconds; which they were."""
    gone = []
    for folder in sorted(attempts.iterdir()):
        if folder in kept or time.time() - _last_change(folder) < older_than or any(processes_of(folder)):
            continue
        _log.info("%s: removed, nothing was written there for %.0f days", folder, older_than / DAY)
        shutil.rmtree(folder, ignore_errors=True)
        gone.append(folder)
    return gone


def _last_change(folder: Path) -> float:
    """When anything in it was written last, by the file system's clock."""
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        try:
            newest = max(newest, path.lstat().st_mtime)
        except OSError:
            continue
    return newest
