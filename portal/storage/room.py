"""Whether an upload has room: what is free on the disks it goes to, and what uploads may take together."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from portal.errors import StorageFull, TooLarge
from portal.settings import Settings
from portal.storage.blobs import folder_of
from portal.storage.staging import ENDING


def check_room(settings: Settings, size: int, received: int) -> None:
    """Refuse an upload of ``size`` bytes, of which ``received`` are here, that would not fit.

    Raises TooLarge beyond the largest file, StorageFull where the rest would touch the reserve of a disk, or the
    room that unfinished uploads may take.
    """
    if size > settings.max_blob_bytes:
        raise TooLarge(
            f"The file has {size:,} bytes; this portal takes {settings.max_blob_bytes:,} at most.",
            "Split it, or ask the portal's operator (PORTAL_MAX_BLOB_BYTES).",
        )
    staging = settings.data / "store" / "uploads"
    if settings.upload_bytes and staged(staging) + size - received > settings.upload_bytes:
        raise StorageFull("Unfinished uploads take all the room they may.", "Finish others first, or try again later.")
    check_disk(settings, size - received)


def check_disk(settings: Settings, more: int) -> None:
    """StorageFull where ``more`` bytes would touch the reserve."""
    folders = [settings.data]
    if not settings.storage_url.startswith("s3://"):
        folders.append(folder_of(settings))
    for folder in folders:
        if shutil.disk_usage(_existing(folder)).free - more < settings.disk_reserve_bytes:
            raise StorageFull(
                "There is too little room left where the portal keeps its files.",
                "Its operator can make room, or lower PORTAL_DISK_RESERVE_BYTES; then go on.",
            )


def staged(folder: Path) -> int:
    """Bytes of all unfinished uploads."""
    total = 0
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.name.endswith(ENDING):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _existing(folder: Path) -> Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
