"""The bytes of a released file from wherever they can be had, hashed on the way: never more than was published."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from portal.catalog.files import FilePlace, FileRow
from portal.errors import FileMissing, IntegrityError, PortalError
from portal.settings import Settings
from portal.storage import StoredFile, open_store
from portal.storage.pace import Pace
from portal.storage.published import look_twice

PIECE = 8 << 20
GROUP = 4
"""Pieces read side by side from a store elsewhere."""


@dataclass
class Source:
    """One place of a file, opened for reading from any offset."""

    uri: str
    size: int
    settings: Settings
    pace: Pace

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from ``start`` to the end, in pieces; errors of the store."""
        store = open_store(self.uri, self.settings)
        at = start
        while at < self.size:
            spans = []
            for offset in range(at, min(at + GROUP * PIECE, self.size), PIECE):
                spans.append((offset, min(PIECE, self.size - offset)))
            for data in store.read_ranges(self.uri, spans):
                self.pace.spend(len(data))
                yield data
                at += len(data)


def open_source(file: FileRow, settings: Settings, pace: Pace, places: Sequence[FilePlace] | None = None) -> Source:
    """The first place that has the file with its published size. The last place's error where none has."""
    error: PortalError = FileMissing(f"{file.path} has no known place.", "Publish the run from where its files lie.")
    for place in file.places if places is None else places:
        try:
            found = _stat(place.uri, file, settings)
        except PortalError as failed:
            error = failed
            continue
        if file.size is None or found.size == file.size:
            return Source(place.uri, found.size, settings, pace)
        error = IntegrityError(
            f"{file.path} has {found.size:,} bytes at its place; {file.size:,} were published.",
            "Restore the published file, or publish the run again.",
        )
    raise error


def _stat(uri: str, file: FileRow, settings: Settings) -> StoredFile:
    store = open_store(uri, settings)
    return look_twice(store, uri, file.size, file.sha256, lambda: store.stat(uri))


def read_checked(source: Source, file: FileRow) -> Iterator[bytes]:
    """All bytes of a file; IntegrityError after the last where their sha256 is not the published one."""
    digest = hashlib.sha256()
    for data in source.pieces():
        digest.update(data)
        yield data
    if file.sha256 is not None and digest.hexdigest() != file.sha256:
        raise IntegrityError(
            f"{file.path} does not have the sha256 it was published with (found {digest.hexdigest()}).",
            "`portal verify` tells what else changed; restore the published file.",
        )
