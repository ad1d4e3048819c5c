"""The files of a bundle when it is published again: those in it, and those it names by their digest alone."""

from __future__ import annotations

from pathlib import Path

from portal.client.bundled import BundledFile, read_bundle
from portal.exchange.places import FoundFile, Places, is_remote, path_in_uri
from portal.exchange.roles import role_of
from portal.manifest import FileEntry
from portal.storage.local import uri_of


def open_places(root: Path) -> Places:
    """Where the files of the release in ``root`` are looked up; DataFault for a bundle whose list cannot be read."""
    bundle = read_bundle(root)
    return Places(root) if bundle is None else BundlePlaces(root, bundle.files)


class BundlePlaces(Places):
    """`Places` that knows what a bundle leaves out: by its address where it has one, else as missing for now."""

    def __init__(self, root: Path, files: list[BundledFile]) -> None:
        super().__init__(root)
        self._by_path = {f.path: f for f in files}
        self._copies = {f.uri: f for f in files if f.uri and f.inside and f.inside != f.path}

    def find(self, entry: FileEntry, role: str, where: str, location: str | None = None) -> FoundFile | None:
        """As of `Places`; a file elsewhere that was copied into the bundle is read there."""
        place = entry.path
        if not is_remote(place) and location and is_remote(location):
            place = f"{location.rstrip('/')}/{place}"
        if is_remote(place):
            copy = self._copies.get(place)
            if copy is None or copy.inside is None or not (self.root / copy.inside).is_file():
                return super().find(entry, role, where, location)
            found = super().find(FileEntry(copy.inside, copy.size, copy.sha256), role, where)
            return found and FoundFile(
                path_in_uri(place), found.uri, role, where, found.size, found.modified_ns, copy.sha256
            )
        path = self._local(place, location)
        named = self._by_path.get(path.relative_to(self.root).as_posix()) or self._by_path.get(place)
        if named is None or path.exists():
            known = FileEntry(entry.path, entry.size, entry.sha256 or (named.sha256 if named else None))
            return super().find(known, role, where, location)
        return self._absent(named, role, where)

    def list_folder(self, location: str, where: str) -> list[FoundFile]:
        """As of `Places`, with the files that are not in the bundle."""
        prefix = f"{Path(location).as_posix()}/".removeprefix("./")
        absent = [
            self._absent(f, role_of(path), where)
            for path, f in self._by_path.items()
            if path.startswith(prefix) and not (self.root / path).exists()
        ]
        here = super().list_folder(location, where) if (self.root / location).is_dir() or not absent else []
        return sorted([*here, *absent], key=lambda f: f.path)

    def _absent(self, file: BundledFile, role: str, where: str) -> FoundFile:
        if file.uri and is_remote(file.uri):
            return FoundFile(file.path, file.uri, role, where, file.size, None, file.sha256)
        uri = uri_of(self.root / file.path)
        return FoundFile(file.path, uri, role, where, file.size, None, file.sha256, absent=True)
