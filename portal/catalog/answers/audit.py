"""Entries of the history, its newest one, and what checking all of them told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class EntryView:
    """One change, bound to the one before it."""

    seq: int
    """Counted from 1 without a gap."""
    at: datetime
    at_ms: int
    """The same in milliseconds since 1970, as it goes into the hash."""
    actor: str
    """Name of a token, or ``operator`` (on the portal's own machine), ``portal`` (the portal itself), ``anonymous``."""
    action: str
    object: str
    """What was changed, as ``kind:name``."""
    run: str | None
    detail: dict[str, Any]
    prev: str
    """Hash of the entry before."""
    hash: str
    """sha256 over ``prev``, ``seq`` and everything else of the entry."""


@dataclass(frozen=True)
class HeadView:
    """The newest entry: whoever keeps this can prove later that nothing up to it was changed."""

    seq: int
    """0: nothing was put on record yet."""
    hash: str
    at: datetime | None
    """When the newest entry was made."""
    key_id: str | None = None
    """sha256 of the public key that signed it, as PEM; None where the portal has no key."""
    signed_at: datetime | None = None
    """When a signature over it was last kept; None for one that was made for this answer."""
    envelope: dict[str, Any] | None = None
    """The signature: a DSSE envelope around an in-toto statement of ``seq`` and ``hash``."""


@dataclass(frozen=True)
class Break:
    """The first place where the history is not what it was."""

    seq: int
    what: str


@dataclass(frozen=True)
class HistoryReport:
    """What checking the whole history told."""

    entries: int
    """Entries that were found good, from the first."""
    head: str
    """Hash of the last good one."""
    heads: int
    """Signed heads that were compared."""
    keys: list[str] = field(default_factory=list)
    """Ids of the keys that had signed them."""
    broken: Break | None = None
    seconds: float = 0.0
