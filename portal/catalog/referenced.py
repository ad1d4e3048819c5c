"""Which blobs of the portal's own store something refers to, and the lock that keeps this true while it is looked at.

Who records a reference to a blob that lies in the store holds the store (`keeping`) from the moment it looks for the blob
until the reference is committed; who removes blobs holds it alone (`removing`) from the moment it looks for references
until the blobs are gone. So neither ever sees half of what the other does.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson
from sqlalchemy import text
from sqlmodel import Session, col, select

from portal.catalog.audit.writing import put_on_record
from portal.catalog.tombstones import purged_releases
from portal.database import Engine, open_session
from portal.errors import Unavailable
from portal.models import File, Job, JobOutput

WAIT_S = 30.0
"""How long a removal waits for publications on their way."""
_LOCK = 0x706F7274616C
"""Names the lock among the advisory locks of a PostgreSQL database."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@contextmanager
def keeping(engine: Engine, data: Path) -> Iterator[None]:
    """No blob is removed until the block ends; any number may hold this. ``data`` is PORTAL_DATA."""
    if engine.dialect.name == "sqlite":
        # An embedded database is one machine's, and the lock goes with a killed process.
        with _lock_file(data) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_advisory_lock_shared(:key)"), {"key": _LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock_shared(:key)"), {"key": _LOCK})


@contextmanager
def removing(engine: Engine, data: Path, wait: float = WAIT_S) -> Iterator[None]:
    """Nobody records a reference to a blob until the block ends. Unavailable where others hold the store for ``wait``
    seconds."""
    if engine.dialect.name == "sqlite":
        with _lock_file(data) as descriptor:
            _wait(lambda: _try_alone(descriptor), wait)
            yield
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Asked for again and again: a waiting request would hold up those who only keep.
        ask = text("SELECT pg_try_advisory_lock(:key)")
        _wait(lambda: bool(connection.execute(ask, {"key": _LOCK}).scalar_one()), wait)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})


def referenced(session: Session, names: Collection[str]) -> set[str]:
    """Those of some sha256 that a file of any release, of whatever version, a job or what an attempt handed in names; a
    release that was purged needs none."""
    wanted, found = sorted(names), set[str]()
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        named = col(File.sha256).in_(part) & col(File.release_id).not_in(purged_releases())
        found.update(s for s in session.exec(select(File.sha256).where(named).distinct()) if s)
    asked = set(wanted)
    for spec in session.exec(select(Job.spec).execution_options(yield_per=100)):
        found.update(asked.intersection(_SHA256.findall(spec)))
    kept = select(JobOutput.files).where(col(JobOutput.removed_ms).is_(None))
    for files in session.exec(kept.execution_options(yield_per=100)):
        found.update(asked.intersection(_SHA256.findall(orjson.dumps(files).decode())))
    return found


def put_removal_on_record(
    engine: Engine, by: str, reason: str, blobs: Mapping[str, int], run: str | None = None
) -> None:
    """That ``by`` takes these blobs (sha256 -> size) away, and why: before they go, so that none goes without an entry.

    Of a removal that was cut off, the next one names again what is still there.
    """
    if not blobs:
        return
    detail = {"files": len(blobs), "bytes": sum(blobs.values()), "reason": reason, "sha256": sorted(blobs)}
    with open_session(engine) as session:
        put_on_record(session, "store.cleaned", by, "store:own", run, detail)
        session.commit()


@contextmanager
def _lock_file(data: Path) -> Iterator[int]:
    path = data / "store" / "removal.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(attempt: Callable[[], bool], wait: float) -> None:
    deadline = time.monotonic() + wait
    while not attempt():
        if time.monotonic() >= deadline:
            raise Unavailable(
                "Releases or checkpoints are being taken in, so nothing can be removed now.", "Try again later."
            )
        time.sleep(0.05)
