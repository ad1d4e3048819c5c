"""What every store promises: files below URIs, read by range, never interpreted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class StoredFile:
    """What a store knows about one file without reading it."""

    uri: str
    path: str
    """Relative to the listed folder."""
    size: int
    modified_ns: int | None


class Store(Protocol):
    """Files below URIs of one scheme."""

    def stat(self, uri: str) -> StoredFile:
        """Size and time of one file; FileMissing when it is not there."""

    def list_files(self, uri: str) -> Iterator[StoredFile]:
        """Every regular file below a folder, by path; symbolic links out of it are refused."""

    def read_range(self, uri: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; DataFault when the file ends before."""

    def local_path(self, uri: str) -> Path | None:
        """The file on this machine, or None where there is none."""
