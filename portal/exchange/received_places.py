"""The files of a release that was sent: paths with sha256 and size, as they lay in the publisher's folder.

Nothing here becomes a path of this machine: names are compared with what the manifest says, bytes are found by sha256.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from portal.errors import Fault
from portal.exchange.places import FoundFile, is_remote, path_in_uri
from portal.exchange.roles import role_of
from portal.manifest import FileEntry
from portal.manifest.check_paths import check_path
from portal.manifest.faults import shown
from portal.storage.blobs import BlobStore

LONGEST_NAME = 255
"""Bytes of one part of a path, as on every common file system."""
_SHA256 = re.compile(r"[0-9a-f]{64}")

Sent = Mapping[str, tuple[str, int]]
"""Path inside the release to (sha256, size)."""


class ReceivedPlaces:
    """Looks files up among those that were sent; what is wrong is collected in ``faults``."""

    origin = "upload:"

    def __init__(self, files: Sent, blobs: BlobStore) -> None:
        """``files`` must be without `faults_of_table`."""
        self.faults: list[Fault] = []
        self.used: set[str] = set()
        """Paths that the manifest named."""
        self._files = files
        self._blobs = blobs
        self._copies: dict[str, Path] = {}
        self._folders: dict[str, list[str]] = {}
        for path in sorted(files):
            for parent in PurePosixPath(path).parents:
                self._folders.setdefault(str(parent), []).append(path)

    def copied(self, copies: Mapping[str, Path]) -> ReceivedPlaces:
        """The same files, some of them with a copy that can be read under its own name."""
        made = ReceivedPlaces(self._files, self._blobs)
        made._copies = dict(copies)
        return made

    def find(self, entry: FileEntry, role: str, where: str, location: str | None = None) -> FoundFile | None:
        """One declared file; relative paths lie below ``location`` where there is one, else below the manifest."""
        place = entry.path
        if not is_remote(place) and location and is_remote(location):
            place = f"{location.rstrip('/')}/{place}"
        if is_remote(place):
            return FoundFile(path_in_uri(place), place, role, where, entry.size, None, entry.sha256)
        below = _plain(f"{location}/{place}" if location else place)
        path = below if below in self._files or not location else _plain(place)
        if path not in self._files:
            self.faults.append(
                Fault(where, f"{shown(place)} is not among the files that were sent", "Send it, or correct its path.")
            )
            return None
        size = self._files[path][1]
        if entry.size is not None and entry.size != size:
            self.faults.append(
                Fault(
                    where,
                    f"{shown(place)} has {size:,} bytes; the manifest says {entry.size:,}",
                    "Publish the complete file, or correct its size.",
                )
            )
        return self._found(path, role, where, entry.sha256)

    def list_folder(self, location: str, where: str) -> list[FoundFile]:
        """Every file below a folder of the release but those whose names begin with a dot."""
        folder = _plain(location)
        below = [
            path
            for path in self._folders.get(folder, [])
            if not any(part.startswith(".") for part in PurePosixPath(path).relative_to(folder).parts)
        ]
        if not below:
            self.faults.append(
                Fault(
                    where, f"no file below {shown(location)} was sent", "Send its files there, or say `missing: true`."
                )
            )
        return [self._found(path, role_of(path), where, None) for path in below]

    def glob(self, entry: FileEntry, role: str, where: str) -> list[FoundFile]:
        """The files a pattern names, by path; a pattern that matches nothing is a fault."""
        pattern = entry.path
        if is_remote(pattern) or not any(c in pattern for c in "*?["):
            found = self.find(entry, role, where)
            return [found] if found else []
        paths = [path for path in sorted(self._files) if _matches(_plain(pattern), path)]
        if not paths:
            self.faults.append(
                Fault(where, f"no file that was sent matches {shown(pattern)}", "Send them, or correct the pattern.")
            )
        return [self._found(path, role, where, None) for path in paths]

    def located(self, _location: str) -> str | None:
        """None: the portal keeps files by sha256, not in folders."""
        return None

    def _found(self, path: str, role: str, where: str, declared: str | None) -> FoundFile:
        self.used.add(path)
        sha256, size = self._files[path]
        uri = self._blobs.location(sha256)
        return FoundFile(path, uri, role, where, size, None, declared, self._copies.get(path), True)


def faults_of_table(files: Sent) -> Iterator[Fault]:
    """What is wrong with a table of sent files: names that lead out, digests that are none, sizes below 0."""
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
    for path, (sha256, size) in files.items():
        where = f"files[{shown(path)!r}]"
        for found in check_path(path, ("files", path)):
            yield Fault(where, found.what, found.remedy)
        if is_remote(path) or not path or _plain(path) != path:
            yield Fault(
                where, "is not a plain path below the release folder", "Write it like checkpoints/step-1/model.bin."
            )
        elif path in folders:
            yield Fault(where, "is the name of a file and of a folder", "Rename one of them.")
        elif any(len(part.encode("utf-8", "surrogatepass")) > LONGEST_NAME for part in path.split("/")):
            yield Fault(where, f"has a part of more than {LONGEST_NAME} bytes", "Rename the file.")
        elif "\0" in path or not _is_text(path):
            yield Fault(where, "is no text", "Rename the file.")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            yield Fault(where, "has no sha256 of 64 lower-case hexadecimal digits", "Hash the file.")
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**53:
            yield Fault(where, "has no size in bytes", "Write it as a whole number.")


def _plain(path: str) -> str:
    return str(PurePosixPath(path))


def _is_text(path: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in path)


def _matches(pattern: str, path: str) -> bool:
    """A glob as `pathlib` reads it: ``*`` stays inside one folder, ``**`` stands for any folders."""
    names = path.split("/")
    reached = {0}
    for part in pattern.split("/"):
        if part == "**":
            reached = {k for begin in reached for k in range(begin, len(names))}
        else:
            reached = {k + 1 for k in reached if k < len(names) and fnmatch.fnmatchcase(names[k], part)}
    return len(names) in reached
