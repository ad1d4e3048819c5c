"""Files on this machine, addressed by ``file://`` URIs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from portal.errors import BadRequest, DataFault, FileMissing
from portal.storage.descriptors import Descriptors
from portal.storage.store import StoredFile

OPEN_FILES = 128
"""Descriptors kept open between reads, over all local stores of the process."""

_descriptors = Descriptors(OPEN_FILES)


class LocalStore:
    """The `Store` of ``file://`` URIs; safe to use from several threads."""

    def stat(self, uri: str) -> StoredFile:
        """Size and time of one regular file; FileMissing when it is not there, DataFault when it is no file."""
        path = path_of(uri)
        return _stored(path, path.name, _regular(path))

    def list_files(self, uri: str, within: str | None = None) -> Iterator[StoredFile]:
        """Every regular file below a folder, by path, names that begin with a dot left out.

        A symbolic link is followed while it ends inside ``within`` (default: the folder itself).
        Raises FileMissing when the folder is not there, DataFault for a link that leads out, a cycle
        of links, and for what is neither file nor folder.
        """
        folder = path_of(uri)
        if not folder.is_dir():
            raise FileMissing(f"{folder} is not a folder.", "Restore it, or correct its path.")
        border = os.path.realpath(path_of(within) if within else folder)
        try:
            found = sorted(
                _walk(str(folder), uri_of(folder).rstrip("/"), "", border, frozenset()), key=lambda f: f.path
            )
        except OSError as error:
            raise DataFault(f"{folder} cannot be listed: {_reason(error)}.", "Let the portal's user read it.") from None
        yield from found

    def read_range(self, uri: str, offset: int, length: int) -> bytes:
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

    def local_path(self, uri: str) -> Path | None:
        """The path a URI stands for, whether or not something is there."""
        return path_of(uri)


def uri_of(path: Path) -> str:
    """The ``file://`` URI of an absolute path; the bytes of its name are percent-encoded."""
    return path.as_uri()


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


def _walk(folder: str, uri: str, prefix: str, border: str, above: frozenset[str]) -> Iterator[StoredFile]:
    real = resolve_inside(folder, border)
    if real in above:
        raise DataFault(f"{folder} is a symbolic link to a folder it lies in.", "Remove the link.")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = _readable_name(entry.name, folder)
            if entry.is_symlink():
                resolve_inside(entry.path, border)
            if entry.is_dir():
                yield from _walk(entry.path, f"{uri}/{quote(name)}", f"{prefix}{name}/", border, above | {real})
            elif entry.is_file():
                found = entry.stat()
                yield StoredFile(f"{uri}/{quote(name)}", prefix + name, found.st_size, found.st_mtime_ns)
            else:
                _regular(entry.path)


def _readable_name(name: str, folder: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise DataFault(f"{folder} holds a file whose name is not UTF-8: {shown}.", "Rename the file.") from None
    return name


def _stored(path: Path, relative: str, found: os.stat_result) -> StoredFile:
    return StoredFile(uri_of(path), relative, found.st_size, found.st_mtime_ns)


def _regular(path: str | Path) -> os.stat_result:
    try:
        found = os.stat(path)
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
