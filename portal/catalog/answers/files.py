"""Files and where to get them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class CopyState:
    """Another place where the same file was, or is."""

    location: str
    """As that of `FileView`."""
    state: str


@dataclass(frozen=True)
class FileView:
    """One file and where to get it."""

    path: str
    size: int | None
    sha256: str | None
    role: str
    url: str | None
    """Where a client downloads it: ``/files/...`` here, or the file's own public address."""
    location: str
    """Its URI; ``local`` on the portal's own machine; ``store`` in the portal's own bucket where readers are not sent to it
    (`PORTAL_REMOTE_FILES=proxy`): else that is ``s3://`` as any other. Never a signed address."""
    state: str
    """``verified``, ``sampled`` (some blocks compared), ``unverified``, ``missing``, ``changed`` or ``unreachable``."""
    verified_at: datetime | None = None
    """When all its bytes were last found to be what was published."""
    checked_at: datetime | None = None
    """When it was last looked at to the end; null while a look is under way, and where there was none."""
    checked_bytes: int | None = None
    """How many of its bytes that look compared."""
    copies: list[CopyState] = field(default_factory=list)
    """Its other places: ``location`` and ``state`` are those of the one that is read."""


@dataclass(frozen=True)
class FileBlocks:
    """A digest of every block of a file, in order; the last block may be shorter."""

    sha256: str
    size: int
    block_size: int
    """Bytes of a block."""
    algorithm: str
    """``blake3``."""
    digests: list[str]
    """Hexadecimal, one for each block."""
