"""PORTAL_DATA: usable, closed to others, with room left, and without what died on its way."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from portal.doctor.verdicts import Verdict, fail, ok, warn
from portal.settings import Settings
from portal.storage.blobs import folder_of

OLD_S = 86400.0
"""Nothing takes a day to come in."""
MOST = 10_000
"""Files looked at."""


def check_data_folder(settings: Settings) -> Iterator[Verdict]:
    """It is there, can be written, and nobody else can."""
    part, folder = "data folder", settings.data.absolute()
    if not folder.is_dir():
        yield fail(part, f"{folder} is not there.", "Correct PORTAL_DATA, or make it: `portal migrate`.")
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield fail(part, f"{folder} cannot be read and written by this user.", f"`chown -R` it to uid {os.geteuid()}.")
        return
    mode = folder.stat().st_mode
    database = folder / "portal.sqlite3"
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield fail(part, f"Everybody on this machine can write to {folder}.", f"`chmod o-w {folder}`.")
    elif database.is_file() and database.stat().st_mode & stat.S_IROTH and mode & stat.S_IXOTH:
        yield warn(part, f"Everybody on this machine can read the database in {folder}.", f"`chmod 700 {folder}`.")
    else:
        yield ok(part, f"{folder} can be used.")


def check_disk(settings: Settings) -> Iterator[Verdict]:
    """Room beyond the reserve, on every disk that uploads go to."""
    folders = [settings.data.absolute()]
    if not settings.storage_url.startswith("s3://"):
        folders.append(folder_of(settings))
    seen: set[int] = set()
    for folder in folders:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if there.stat().st_dev in seen:
            continue
        seen.add(there.stat().st_dev)
        yield _room(there, settings.disk_reserve_bytes)


def check_leftovers(settings: Settings) -> Iterator[Verdict]:
    """Files on their way that nobody goes on with."""
    part = "uploads"
    places = [settings.data / "store" / "uploads"]
    if not settings.storage_url.startswith("s3://"):
        places.append(folder_of(settings) / "incoming")
    old = [found for place in places for found in _old(place)]
    if old:
        yield warn(
            part,
            f"{len(old):,} files came in part and were not gone on with for a day "
            f"({sum(size for _, size in old) / 2**20:,.1f} MiB), the first in {old[0][0].parent}.",
            "Uploads are forgotten after a week by themselves; files in `incoming` were left by a crash: remove them.",
        )
    else:
        yield ok(part, "Nothing that came in part lies about.")
    if (settings.data / "restoring.json").exists():
        yield fail(
            part,
            "A restoration ended early here: the catalog is not what it should be.",
            "Run the same `portal restore` again; it goes on where it stopped.",
        )


def _room(folder: Path, reserve: int) -> Verdict:
    free = shutil.disk_usage(folder).free
    told = f"{folder} has {free / 2**30:,.1f} GiB left; {reserve / 2**30:,.1f} GiB of them are the reserve."
    if free < reserve:
        return fail("disk", told + " Uploads are refused.", "Make room, or lower PORTAL_DISK_RESERVE_BYTES.")
    if free < 2 * reserve:
        return warn("disk", told, "Make room soon: uploads are refused when the reserve is reached.")
    return ok("disk", told)


def _old(folder: Path) -> Iterator[tuple[Path, int]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in _first(entries):
            with suppress(FileNotFoundError):
                about = entry.stat(follow_symlinks=False)
                if time.time() - about.st_mtime > OLD_S:
                    yield Path(entry.path), about.st_size


def _first(entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    for number, entry in enumerate(entries):
        if number >= MOST:
            return
        yield entry
