"""From what a manifest writes to where the bytes lie: relative paths below its folder, or URIs elsewhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from portal.errors import Fault, PortalError
from portal.exchange.roles import role_of
from portal.manifest import FileEntry
from portal.storage.local import Inside, path_of, uri_of

REMOTE = ("hf", "s3", "https", "http")


@dataclass(frozen=True)
class FoundFile:
    """A file of a release: local with its size, or remote with what the manifest says of it."""

    path: str
    """Path inside the release, or the part of its URI that names the file."""
    uri: str
    role: str
    where: str
    """The manifest line that names it."""
    size: int | None = None
    modified_ns: int | None = None
    sha256: str | None = None
    """As declared."""
    copy: Path | None = None
    """Where its bytes can be read under its own name, of a file that lies in a store under another one."""
    sent: bool = False
    """Whether its bytes were sent to the portal's own store."""
    absent: bool = False
    """Whether only its digest is here, and its bytes may come to its place later."""
    told: bool = False
    """Whether a finding says already why it was not read."""

    @property
    def is_local(self) -> bool:
        """Whether its bytes are on this machine."""
        return self.uri.startswith("file://") and not self.absent

    @property
    def local(self) -> Path | None:
        """Its path on this machine, None where it is remote."""
        return self.copy or (path_of(self.uri) if self.is_local else None)


def is_remote(place: str) -> bool:
    """Whether a path or location is a URI."""
    return place.partition("://")[0] in REMOTE and "://" in place


def public_place(uri: str) -> str:
    """A place as pages may show it: a web address without its query, which may hold a signature."""
    return uri.partition("?")[0].partition("#")[0] if uri.startswith(("http://", "https://")) else uri


def path_in_uri(uri: str) -> str:
    """The part of a URI that names the file: without host, bucket, or Hub repository and revision."""
    scheme, _, rest = uri.partition("://")
    parts = rest.split("/")
    if scheme == "hf":
        return "/".join(parts[3:] if parts[0] in ("datasets", "spaces") else parts[2:]) or rest
    return "/".join(parts[1:]) or rest


class Places:
    """Looks files up below one release folder; what is wrong is collected in ``faults``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults: list[Fault] = []
        self._inside = Inside(os.path.realpath(root))

    def find(self, entry: FileEntry, role: str, where: str, location: str | None = None) -> FoundFile | None:
        """One declared file; relative paths lie below ``location`` where there is one, else below the manifest."""
        place = entry.path
        if not is_remote(place) and location and is_remote(location):
            place = f"{location.rstrip('/')}/{place}"
        if is_remote(place):
            return FoundFile(path_in_uri(place), place, role, where, entry.size, None, entry.sha256)
        path = self._local(place, location)
        try:
            found = self._inside.stat(str(path))
        except PortalError as error:
            self.fault(where, error)
            return None
        if entry.size is not None and entry.size != found.st_size:
            self.faults.append(
                Fault(
                    where,
                    f"{place} has {found.st_size:,} bytes; the manifest says {entry.size:,}",
                    "Publish the complete file, or correct its size.",
                )
            )
        relative = path.relative_to(self.root).as_posix()
        return FoundFile(relative, uri_of(path), role, where, found.st_size, found.st_mtime_ns, entry.sha256)

    def list_folder(self, location: str, where: str) -> list[FoundFile]:
        """Every file below a folder of the release; names tell their roles."""
        folder = str(self.root / location)
        try:
            self._inside.resolve(folder)
            stored = self._inside.list_files(folder)
        except PortalError as error:
            self.fault(where, error)
            return []
        if not stored:
            self.faults.append(
                Fault(where, f"{location} holds no file", "Put the checkpoint's files there, or say `missing: true`.")
            )
        prefix = f"{Path(location).as_posix()}/".removeprefix("./")
        return [
            FoundFile(prefix + s.path, s.uri, role_of(prefix + s.path), where, s.size, s.modified_ns) for s in stored
        ]

    def glob(self, entry: FileEntry, role: str, where: str) -> list[FoundFile]:
        """The files a pattern names, by path; a pattern that matches nothing is a fault.

        A name without wildcards is one file; size and sha256 are compared for it alone.
        """
        pattern = entry.path
        if is_remote(pattern) or not any(c in pattern for c in "*?["):
            found = self.find(entry, role, where)
            return [found] if found else []
        paths = sorted(p.relative_to(self.root).as_posix() for p in self.root.glob(pattern) if p.is_file())
        odd = [path for path in paths if not _is_text(path)]
        for path in odd:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            self.faults.append(Fault(where, f"{shown} has a name that is not UTF-8", "Rename the file."))
        paths = [path for path in paths if path not in odd]
        if not paths and not odd:
            self.faults.append(
                Fault(where, f"no file matches {pattern}", "Put the files there, or correct the pattern.")
            )
        return [found for path in paths if (found := self.find(FileEntry(path), role, where))]

    def located(self, location: str) -> str | None:
        """The URI of a folder of the release."""
        return uri_of(self.root / location)

    @property
    def origin(self) -> str:
        """The URI of the whole release."""
        return uri_of(self.root)

    def fault(self, where: str, error: PortalError) -> None:
        """Keep an error as a fault of the manifest's line; folders of this machine are shown as in the manifest."""
        what = error.message.replace(f"{self.root}/", "").replace(f"{self._inside.border}/", "").rstrip(".")
        self.faults.append(Fault(where, what, error.remedy))

    def _local(self, place: str, location: str | None) -> Path:
        below = self.root / location / place if location else self.root / place
        plain = self.root / place
        # Both readings are in use: paths below the checkpoint's location, and below the manifest.
        return plain if location and not below.exists() and plain.exists() else below


def _is_text(name: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in name)
