"""Files on this machine, addressed by ``file://`` URIs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from portal.errors import BadRequest, DataFault, FileMissing
from portal.storage.descriptors import Descriptors
from portal.storage.store import Meter, StoredFile

OPEN_FILES = 128
"""Descriptors kept open between reads, over all local stores of the process."""

_descriptors = Descriptors(OPEN_FILES)


class LocalStore:
    """The `Store` of ``file://`` URIs; safe to use from several threads."""

    def stat(self, uri: str) -> StoredFile:
        """Size and time of one regular file; FileMissing when it is not there, DataFault when it is no file."""
        path = path_of(uri)
        found = _regular(path)
        return StoredFile(uri_of(path), path.name, found.st_size, found.st_mtime_ns)

    def seen(self, uri: str, meter: Meter | None = None) -> StoredFile:  # noqa: ARG002 - nothing is sent
        """What `stat` says."""
        return self.stat(uri)

    def forget(self, uri: str) -> None:
        """Nothing is remembered here."""

    def list_files(self, uri: str, within: str | None = None) -> Iterator[StoredFile]:
        """Every regular file below a folder, by path, names that begin with a dot left out.

        A symbolic link is followed while it ends inside ``within`` (default: the folder itself).
        Raises FileMissing when the folder is not there, DataFault for a link that leads out, a cycle
        of links, and for what is neither file nor folder.
        """
        folder = path_of(uri)
        yield from Inside(os.path.realpath(path_of(within) if within else folder)).list_files(str(folder))

    def read_range(self, uri: str, offset: int, length: int, meter: Meter | None = None) -> bytes:  # noqa: ARG002
        """Exactly ``length`` bytes from ``offset``; FileMissing, or DataFault when the file ends before."""
        if offset < 0 or length < 0:
            raise BadRequest(f"Bytes {offset} to {offset + length} of {uri} cannot be read.", "Count bytes from 0.")
        path = _name_of(uri)
        found = _regular(path)
        if offset + length > found.st_size:
            raise _cut_short(path, found.st_size, offset, length)
        with _descriptors.lend(path, found) as descriptor:
            parts = []
            while length:
                # One pread returns at most 2 GiB.
                part = os.pread(descriptor, length, offset)
                if not part:
                    raise _cut_short(path, os.fstat(descriptor).st_size, offset, length)
                parts.append(part)
                offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_ranges(self, uri: str, ranges: Sequence[tuple[int, int]], meter: Meter | None = None) -> list[bytes]:
        """Several (offset, length), in the order asked for; errors as of `read_range`."""
        return [self.read_range(uri, offset, length, meter) for offset, length in ranges]

    def local_path(self, uri: str) -> Path | None:
        """The path a URI stands for, whether or not something is there."""
        return path_of(uri)

    def public_url(self, uri: str, name: str = "") -> str | None:  # noqa: ARG002 - the portal itself serves local files
        """None: folders of this machine have no address of their own."""
        return None


def uri_of(path: str | Path) -> str:
    """The ``file://`` URI of an absolute path; the bytes of its name are percent-encoded."""
    return f"file://{quote_from_bytes(os.fsencode(path))}"


def path_of(uri: str) -> Path:
    """The path of a ``file://`` URI (RFC 8089: empty host or ``localhost``); BadRequest for any other text."""
    return Path(_name_of(uri))


@lru_cache(maxsize=4096)
def _name_of(uri: str) -> str:
    # Plain strings from here on: a range read costs less than making a Path.
    host, slash, rest = uri.removeprefix("file://").partition("/")
    if not uri.startswith("file://") or host not in ("", "localhost") or not slash:
        raise BadRequest(f"{uri[:200]!r} is not the address of a file on this machine.", "Write file:///path/to/file.")
    raw = unquote_to_bytes(rest)
    if b"\0" in raw:
        raise BadRequest("A file name cannot hold a NUL character.", "Correct the address.")
    return os.fsdecode(b"/" + raw)


def resolve_inside(path: str | Path, border: str) -> str:
    """``path`` with its links followed; DataFault when it ends outside ``border`` (already resolved)."""
    try:
        real = os.path.realpath(path, strict=True)
    except FileNotFoundError:
        raise FileMissing(f"{path} is not there.", "Restore it, or correct its path.") from None
    except OSError as error:
        raise DataFault(
            f"{path} cannot be followed: {_reason(error)}.", "Replace the link by the file it means."
        ) from None
    if real != border and not real.startswith(border.rstrip("/") + "/"):
        raise DataFault(
            f"{path} is a symbolic link that leads out of {border}.",
            "Put a copy or a hard link of the file in its place.",
        )
    return real


class Inside:
    """Looks below one folder and never follows a link out of it.

    Folders on the way are resolved once, so that a release of thousands of files costs one look at each.
    """

    def __init__(self, border: str) -> None:
        """``border`` is resolved already."""
        self.border = border
        self._resolved: dict[str, str] = {}

    def stat(self, path: str) -> os.stat_result:
        """Size and time of one regular file; FileMissing, or DataFault for what is no file or leads out."""
        return _regular(path, self._look(path)[1])

    def list_files(self, folder: str) -> list[StoredFile]:
        """What `LocalStore.list_files` gives."""
        if not os.path.isdir(folder):
            raise FileMissing(f"{folder} is not a folder.", "Restore it, or correct its path.")
        found: list[StoredFile] = []
        try:
            self._walk(folder, uri_of(folder).rstrip("/"), "", frozenset(), found)
        except OSError as error:
            raise DataFault(f"{folder} cannot be listed: {_reason(error)}.", "Let the portal's user read it.") from None
        found.sort(key=_by_path)
        return found

    def resolve(self, path: str) -> str:
        """`resolve_inside` this border."""
        return self._look(path)[0]

    def _look(self, path: str) -> tuple[str, os.stat_result | None]:
        """Where ``path`` really is, and what is there where that is known already."""
        folder, _, name = path.rpartition("/")
        real = self._resolved.get(folder) or self._resolve_folder(folder)
        if real and name not in ("", ".", ".."):
            with suppress(OSError):
                found = os.lstat(path)
                if not stat.S_ISLNK(found.st_mode):
                    return f"{real.rstrip('/')}/{name}", found
        return resolve_inside(path, self.border), None

    def _resolve_folder(self, folder: str) -> str:
        """Empty where the folder itself lies outside: what is in it may still lead back."""
        try:
            real = self._resolved[folder] = resolve_inside(folder or "/", self.border)
        except (DataFault, FileMissing):
            return ""
        return real

    def _walk(self, folder: str, uri: str, prefix: str, above: frozenset[str], found: list[StoredFile]) -> None:
        real = self.resolve(folder)
        if real in above:
            raise DataFault(f"{folder} is a symbolic link to a folder it lies in.", "Remove the link.")
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = _readable_name(entry.name, folder)
                if entry.is_symlink():
                    self.resolve(entry.path)
                if entry.is_file():
                    about = entry.stat()
                    found.append(StoredFile(f"{uri}/{quote(name)}", prefix + name, about.st_size, about.st_mtime_ns))
                elif entry.is_dir():
                    self._walk(entry.path, f"{uri}/{quote(name)}", f"{prefix}{name}/", above | {real}, found)
                else:
                    _regular(entry.path)


def _readable_name(name: str, folder: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise DataFault(f"{folder} holds a file whose name is not UTF-8: {shown}.", "Rename the file.") from None
    return name


_by_path = attrgetter("path")


def _regular(path: str | Path, found: os.stat_result | None = None) -> os.stat_result:
    try:
        found = found or os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileMissing(
            f"{path} is not there.", "Restore it, or publish the run again from where it lies now."
        ) from None
    except OSError as error:
        raise DataFault(f"{path} cannot be read: {_reason(error)}.", "Let the portal's user read it.") from None
    if not stat.S_ISREG(found.st_mode):
        raise DataFault(f"{path} is not a regular file.", "Name the files themselves.")
    return found


def _cut_short(path: str, size: int, offset: int, length: int) -> DataFault:
    return DataFault(
        f"{path} is {size:,} bytes long and ends before byte {offset + length:,}.",
        "The file is cut short or its description is wrong: compare it with the release.",
    )


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
