"""What every store promises: files below URIs, read by range, never interpreted."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
    etag: str = ""
    """Changes with the bytes, where a server tells one; empty on this machine."""


@dataclass
class Meter:
    """What reading cost on the network; safe to share between threads."""

    requests: int = 0
    """Requests sent, retries and redirects among them."""
    bytes: int = 0
    """Bytes of answers, whether or not they were of use."""
    unverified: int = 0
    """Bytes handed out that no digest vouches for."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, requests: int = 0, received: int = 0, unverified: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            self.requests += requests
            self.bytes += received
            self.unverified += unverified


class Store(Protocol):
    """Files below URIs of one scheme."""

    def stat(self, uri: str) -> StoredFile:
        """Size and time of one file; FileMissing when it is not there."""

    def seen(self, uri: str, meter: Meter | None = None) -> StoredFile:
        """What `stat` said not long ago where asking again costs a request, or says now."""

    def forget(self, uri: str) -> None:
        """Look at a file as if for the first time when it is asked for next."""

    def list_files(self, uri: str) -> Iterator[StoredFile]:
        """Every regular file below a folder, by path; symbolic links out of it are refused."""

    def read_range(self, uri: str, offset: int, length: int, meter: Meter | None = None) -> bytes:
        """Exactly ``length`` bytes from ``offset``; DataFault when the file ends before."""

    def read_ranges(self, uri: str, ranges: Sequence[tuple[int, int]], meter: Meter | None = None) -> list[bytes]:
        """Several (offset, length) at once, in the order asked for; the first that fails raises as `read_range`."""

    def local_path(self, uri: str) -> Path | None:
        """The file on this machine, or None where there is none."""

    def public_url(self, uri: str, name: str = "") -> str | None:
        """An address at which a client of the portal gets the bytes itself, saved as ``name`` where the address can say
        so; None where there is none."""
