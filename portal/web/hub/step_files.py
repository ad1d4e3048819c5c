"""The rows of a step as a parquet file: written when first asked for, then kept in a folder of limited size."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sqlmodel import Session

from portal.catalog.batches import rows_of
from portal.catalog.repositories import Revision
from portal.catalog.repository_files import RepoFile
from portal.web.batch_files import write_batch
from portal.web.deps import Desk
from portal.web.hub.signed import files_of

KEPT_BYTES = 4 << 30
"""Of written files on disk; those made longest ago go first and are made again when they are asked for."""
KEPT_DIGESTS = 10_000

_digests: OrderedDict[tuple[str, int, int], str] = OrderedDict()
_lock = threading.Lock()
_making = threading.Lock()


@dataclass(frozen=True)
class StepFile:
    """A written file."""

    path: Path
    size: int
    sha256: str


def complete(session: Session, desk: Desk, revision: Revision) -> tuple[RepoFile, ...]:
    """The revision's files with the size and sha256 of those that are made on demand, and its signature."""
    return tuple(
        file if file.step is None else _filled(file, step_file(session, desk, revision, file.step))
        for file in files_of(desk, revision)
    )


def step_file(session: Session, desk: Desk, revision: Revision, step: int) -> StepFile:
    """The rows of ``step`` as a file; DataFault when one of them cannot be read."""
    path = desk.settings.data.resolve() / "store" / "step-files" / f"{revision.commit}.parquet"
    with suppress(FileNotFoundError):
        return _looked_at(path)
    # One at a time: a batch is held in memory while it is written, and most callers want the same one.
    with _making:
        with suppress(FileNotFoundError):
            return _looked_at(path)
        _write(path, b"".join(write_batch(rows_of(session, desk.settings, revision.facts, step), "parquet")))
        _make_room(path)
        return _looked_at(path)


def _filled(file: RepoFile, made: StepFile) -> RepoFile:
    return replace(file, size=made.size, sha256=made.sha256)


def _looked_at(path: Path) -> StepFile:
    about = path.stat()
    key = str(path), about.st_size, about.st_mtime_ns
    with _lock:
        digest = _digests.get(key)
    if digest is None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with _lock:
            _digests[key] = digest
            if len(_digests) > KEPT_DIGESTS:
                _digests.popitem(last=False)
    return StepFile(path, about.st_size, digest)


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
        # Whole or not there at all, also for other processes of this portal.
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _make_room(newest: Path) -> None:
    """Delete the files made longest ago beyond the limit; whoever is reading one keeps it open."""
    total = 0
    # Another process of this portal may be deleting as well.
    with suppress(FileNotFoundError):
        files = [(path.stat(), path) for path in newest.parent.glob("*.parquet")]
        for about, path in sorted(files, key=lambda found: -found[0].st_mtime_ns):
            total += about.st_size
            if total > KEPT_BYTES and path != newest:
                path.unlink(missing_ok=True)
