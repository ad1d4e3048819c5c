"""Archives of exported bundles, unpacked for the time of a look at them."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from portal.client.paths import inside
from portal.errors import DataFault

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
"""Endings of the archives that a bundle may be packed into."""
MAX_RATIO = 2000
"""Bytes that one byte of an archive may unpack to: text packs a thousand to one at best, a bomb far beyond."""
ALWAYS = 1 << 30
"""Bytes that any archive may unpack to."""


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """A folder with the files of ``archive`` while the block runs; links and odd names are refused.

    Raises DataFault for what is no archive, names a file outside itself, or unpacks to far more than it is.
    """
    limit = max(archive.stat().st_size * MAX_RATIO, ALWAYS)
    with tempfile.TemporaryDirectory(prefix="portal-bundle-") as name:
        folder = Path(name)
        try:
            if archive.name.endswith(".zip"):
                _unzip(archive, folder, limit)
            else:
                _untar(archive, folder, limit)
        # Damaged archives end in any of these: OSError from a codec in the middle of a stream, NotImplementedError for
        # a way of packing that nobody here can undo. Whichever it is, the archive cannot be used, and says so.
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, NotImplementedError) as error:
            raise DataFault(f"{archive} cannot be unpacked: {error}.", "Fetch it again.") from None
        yield folder


def _unzip(archive: Path, folder: Path, limit: int) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            if member.is_dir():
                continue
            limit = _spend(archive, limit, member.file_size)
            with packed.open(member) as stream:
                _write(stream, inside(folder, member.filename), member.file_size)


def _untar(archive: Path, folder: Path, limit: int) -> None:
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.isdir():
                continue
            stream = packed.extractfile(member) if member.isreg() else None
            if stream is None:
                raise DataFault(f"{archive} holds {member.name!r}, which is no plain file.", "Unpack it by hand.")
            limit = _spend(archive, limit, member.size)
            _write(stream, inside(folder, member.name.removeprefix("./")), member.size)


def _spend(archive: Path, limit: int, size: int) -> int:
    if size > limit:
        raise DataFault(f"{archive} unpacks to far more than it is.", "Unpack it by hand if that is meant.")
    return limit - size


def _write(stream: IO[bytes], target: Path, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as written:
        shutil.copyfileobj(stream, written, 1 << 20)
    if target.stat().st_size != size:
        raise DataFault(f"{target.name} is not as long as the archive says.", "Fetch the archive again.")
