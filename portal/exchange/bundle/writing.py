"""A folder, zip or tar that appears whole or not at all; the same content again changes nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from portal.client.archives import ARCHIVES
from portal.client.bundled import LIST, read_bundle
from portal.client.paths import inside
from portal.client.released import SUMS
from portal.errors import PortalError, UsageError

try:
    import fcntl
except ImportError:  # Windows has other locks; there two exports to one place are not kept apart
    fcntl = None  # type: ignore[assignment]

_FIRST_DAY = (1980, 1, 1, 0, 0, 0)


class Draft:
    """A folder being filled, and the sha256 of what is in it."""

    def __init__(self, folder: Path, before: Path | None = None) -> None:
        """``before`` is a folder of an earlier export from which equal files are taken."""
        self.folder = folder
        self.sums: dict[str, str] = {}
        self._before = before if before and before.is_dir() else None

    def holds(self, path: str) -> bool:
        """Whether ``path`` is in it already."""
        return path in self.sums

    def write(self, path: str, pieces: Iterable[bytes]) -> int:
        """Write a file and give its size; what ``pieces`` raises leaves no file."""
        target = inside(self.folder, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        partial = target.with_name(target.name + ".part")
        try:
            with partial.open("wb") as stream:
                for data in pieces:
                    digest.update(data)
                    size += len(data)
                    stream.write(data)
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self.sums[path] = digest.hexdigest()
        return size

    def take_over(self, path: str, size: int | None, sha256: str | None) -> bool:
        """Use the file of an interrupted or earlier export where it has this sha256."""
        if sha256 is None:
            return False
        target = inside(self.folder, path)
        for held in (target, *([inside(self._before, path)] if self._before else [])):
            if not held.is_file() or (size is not None and held.stat().st_size != size) or _digest(held) != sha256:
                continue
            if held != target:
                target.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    os.link(held, target)
            self.sums[path] = sha256
            return True
        return False

    def finish(self) -> None:
        """Remove what an interrupted export left and this one did not write, and list the digests of the rest."""
        for place, _, names in os.walk(self.folder, topdown=False):
            for name in names:
                path = Path(place, name)
                if path.relative_to(self.folder).as_posix() not in self.sums:
                    path.unlink()
            if Path(place) != self.folder:
                with suppress(OSError):
                    os.rmdir(place)
        lines = [f"{sha256}  {path}\n" for path, sha256 in sorted(self.sums.items())]
        (self.folder / SUMS).write_text("".join(lines), "utf-8")


@contextmanager
def drafted(to: Path, run: str) -> Iterator[Draft]:
    """A draft beside ``to`` that takes its place when the block ends well. A killed one is taken up again.

    Raises UsageError when something else lies at ``to``, or another export is filling it.
    """
    to = to.absolute()
    _refuse_others(to, run)
    to.parent.mkdir(parents=True, exist_ok=True)
    folder = to.with_name(f".{to.name}.part")
    folder.mkdir(exist_ok=True)
    with _held(folder, to):
        draft = Draft(folder, to if to.is_dir() else None)
        try:
            yield draft
            draft.finish()
            if is_archive(to):
                _pack(draft, to)
            else:
                _put(folder, to)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def is_archive(to: Path) -> bool:
    """Whether the name asks for a zip or tar."""
    return to.name.endswith(ARCHIVES)


def _refuse_others(to: Path, run: str) -> None:
    if not to.exists():
        return
    if is_archive(to):
        if not to.is_file():
            raise UsageError(f"{to} is a folder.", "Choose another --to.")
        return
    if not to.is_dir():
        raise UsageError(f"{to} is a file.", "Choose another --to, or a name that ends in .zip or .tar.")
    held = None
    with suppress(PortalError):
        held = read_bundle(to)
    if held is None and any(to.iterdir()):
        raise UsageError(f"{to} holds something else than a bundle.", "Nothing was changed; choose another --to.")
    if held is not None and held.run != run:
        raise UsageError(f"{to} holds the bundle of {held.run}.", "Nothing was changed; choose another --to.")


@contextmanager
def _held(folder: Path, to: Path) -> Iterator[None]:
    """The system lets go of it when the process ends, however it ends."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{to} is being filled by another export.", "Wait for it.") from None
        yield
    finally:
        os.close(handle)


def _put(folder: Path, to: Path) -> None:
    if to.is_dir() and _same(folder, to):
        return
    old = to.with_name(f".{to.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if to.exists():
        os.replace(to, old)
    os.replace(folder, to)
    shutil.rmtree(old, ignore_errors=True)


def _same(folder: Path, to: Path) -> bool:
    sums = to / SUMS
    if not sums.is_file() or sums.read_bytes() != (folder / SUMS).read_bytes():
        return False
    return all((to / p).is_file() and (to / p).stat().st_size == (folder / p).stat().st_size for p in _paths(folder))


def _pack(draft: Draft, to: Path) -> None:
    """The draft as an archive whose bytes depend on its content alone."""
    partial = to.with_name(f".{to.name}.archive")
    try:
        if to.name.endswith(".zip"):
            _zip(draft.folder, partial)
        else:
            _tar(draft.folder, partial, "" if to.name.endswith(".tar") else "gz")
        os.replace(partial, to)
    finally:
        partial.unlink(missing_ok=True)


def _zip(folder: Path, to: Path) -> None:
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for path in _paths(folder):
            about = zipfile.ZipInfo(path, _FIRST_DAY)
            about.external_attr = 0o644 << 16
            about.compress_type = zipfile.ZIP_STORED if _is_packed(path) else zipfile.ZIP_DEFLATED
            about.file_size = (folder / path).stat().st_size
            with (folder / path).open("rb") as stream, archive.open(about, "w") as target:
                shutil.copyfileobj(stream, target, 1 << 20)


def _tar(folder: Path, to: Path, packed: str) -> None:
    import gzip  # noqa: PLC0415 - of one kind of archive

    with to.open("wb") as raw:
        # A gzip header would hold the time and the name of the file otherwise.
        stream = gzip.GzipFile("", "wb", mtime=0, fileobj=raw) if packed else None
        with tarfile.open(fileobj=stream or raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in _paths(folder):
                about = tarfile.TarInfo(path)
                about.size, about.mode = (folder / path).stat().st_size, 0o644
                with (folder / path).open("rb") as held:
                    archive.addfile(about, held)
        if stream is not None:
            stream.close()


def _is_packed(path: str) -> bool:
    return path.endswith((".safetensors", ".parquet", ".gz", ".zst", ".bin", ".npy"))


def _paths(folder: Path) -> list[str]:
    found = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    # The list comes first: whoever looks into an archive sees at once what it is.
    return sorted(found, key=lambda path: (path != LIST, path))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
