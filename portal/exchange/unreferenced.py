"""Blobs of the portal's own store that nothing refers to: found, and removed where that is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from portal.catalog.audit.writing import PORTAL
from portal.catalog.referenced import put_removal_on_record, referenced, removing
from portal.database import Engine, open_session
from portal.settings import Settings
from portal.storage.blobs import BlobStore, HeldBlob, open_blobs
from portal.storage.staging import staged_names

AT_ONCE = 200
"""Blobs removed in one hold of the store: publishers wait so long."""
DEFAULT_AGE = timedelta(days=7)


@dataclass
class StoreReport:
    """What lies in the store."""

    blobs: int = 0
    bytes: int = 0
    recent: int = 0
    """Blobs that came too lately to be looked at: their release may still be on its way."""
    unreferenced: list[HeldBlob] = field(default_factory=list)
    """Blobs that nothing refers to, or, after a removal, referred to."""
    removed: bool = False

    @property
    def unreferenced_bytes(self) -> int:
        """Bytes of these."""
        return sum(blob.size for blob in self.unreferenced)


def look_at_store(engine: Engine, settings: Settings, older_than: timedelta = DEFAULT_AGE) -> StoreReport:
    """Which blobs nothing refers to: no file of any version of a release, no job, no attempt, no upload on its way.

    Nothing is changed. Blobs younger than ``older_than`` are left out.
    """
    report, waiting = StoreReport(), list[HeldBlob]()
    latest = time.time_ns() - int(older_than.total_seconds() * 1e9)
    for blob in open_blobs(settings).list_held():
        report.blobs += 1
        report.bytes += blob.size
        if blob.modified_ns > latest:
            report.recent += 1
        else:
            waiting.append(blob)
    report.unreferenced = _spare(engine, settings, waiting)
    return report


def remove_unreferenced(
    engine: Engine, settings: Settings, older_than: timedelta = DEFAULT_AGE, by: str = PORTAL
) -> StoreReport:
    """Remove them, and leave an entry in the history that ``by`` did. Each is looked at again while nobody can record a
    reference to it.

    Unavailable where publications hold the store for long; what was removed by then stays removed.
    """
    report, blobs = look_at_store(engine, settings, older_than), open_blobs(settings)
    gone: list[HeldBlob] = []
    for batch in _batches(report.unreferenced):
        with removing(engine, settings.data):
            spare = _still_old(_spare(engine, settings, batch), blobs, older_than)
            put_removal_on_record(engine, by, _why(older_than), {blob.sha256: blob.size for blob in spare})
            for blob in spare:
                blobs.remove(blob.sha256)
        gone += spare
    report.unreferenced, report.removed = gone, True
    return report


def _why(older_than: timedelta) -> str:
    return f"No release, job or upload referred to them, and they came more than {_age(older_than)} before."


def _age(older_than: timedelta) -> str:
    hours = older_than.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"


def _spare(engine: Engine, settings: Settings, found: Sequence[HeldBlob]) -> list[HeldBlob]:
    coming = staged_names(settings.data / "store" / "uploads")
    with open_session(engine) as session:
        used = referenced(session, {blob.sha256 for blob in found}) if found else set()
    return [blob for blob in found if blob.sha256 not in used and blob.sha256 not in coming]


def _still_old(found: Sequence[HeldBlob], blobs: BlobStore, older_than: timedelta) -> list[HeldBlob]:
    """Without those that were removed and sent again since they were listed."""
    latest = time.time_ns() - int(older_than.total_seconds() * 1e9)
    return [blob for blob in found if (at := blobs.modified_ns(blob.sha256)) is not None and at <= latest]


def _batches(found: Sequence[HeldBlob]) -> Iterator[Sequence[HeldBlob]]:
    for start in range(0, len(found), AT_ONCE):
        yield found[start : start + AT_ONCE]
