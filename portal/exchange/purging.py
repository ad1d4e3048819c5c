"""Bytes of purged versions leave the portal's own store, unless something else still needs them."""

from __future__ import annotations

from dataclasses import dataclass

from portal.catalog.referenced import put_removal_on_record, referenced, removing
from portal.catalog.withdrawals import Withdrawing
from portal.database import Engine, open_session
from portal.settings import Settings
from portal.storage.blobs import open_blobs
from portal.storage.staging import staged_names

AT_ONCE = 200
"""Blobs removed in one hold of the store: publishers wait so long."""


@dataclass
class Removed:
    """What left the store."""

    files: int = 0
    bytes: int = 0


def remove_purged(engine: Engine, settings: Settings, gone: Withdrawing, by: str) -> Removed:
    """Remove those of the purged files that lie in the portal's own store and that nothing refers to any more.

    Files that were published where they lie, outside the store, are not the portal's to remove. Unavailable where
    publications hold the store for long; what was removed by then stays removed.
    """
    blobs, removed, names = open_blobs(settings), Removed(), gone.purged
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        with removing(engine, settings.data):
            coming = staged_names(settings.data / "store" / "uploads")
            with open_session(engine) as session:
                needed = referenced(session, part) | set(coming)
            sizes = {name: size for name in part if name not in needed and (size := blobs.has(name)) is not None}
            put_removal_on_record(engine, by, f"{gone.run} was purged.", sizes, gone.run)
            for name, size in sizes.items():
                blobs.remove(name)
                removed.files += 1
                removed.bytes += size
    return removed
