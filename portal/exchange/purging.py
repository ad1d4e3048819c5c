"""Bytes of purged versions leave the portal's own store, unless something else still needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portal.catalog.referenced import referenced, removing
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


def remove_purged(engine: Engine, settings: Settings, names: Sequence[str]) -> Removed:
    """Remove those of ``names`` (sha256) that lie in the portal's own store and that nothing refers to any more.

    Files that were published where they lie, outside the store, are not the portal's to remove. Unavailable where
    publications hold the store for long; what was removed by then stays removed.
    """
    blobs, removed = open_blobs(settings), Removed()
    for start in range(0, len(names), AT_ONCE):
        part = names[start : start + AT_ONCE]
        with removing(engine, settings.data):
            coming = staged_names(settings.data / "store" / "uploads")
            with open_session(engine) as session:
                needed = referenced(session, part) | set(coming)
            for name in part:
                size = None if name in needed else blobs.has(name)
                if size is not None:
                    blobs.remove(name)
                    removed.files += 1
                    removed.bytes += size
    return removed
