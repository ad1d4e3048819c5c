"""Who signed what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class PortalKeyView:
    """A key this portal signs with, or signed with once."""

    key_id: str
    """sha256 of the public key as PEM."""
    algorithm: str
    public_key: str
    """PEM."""
    first_used_at: datetime
    current: bool
    """Whether the portal signs with it now."""


@dataclass(frozen=True)
class PortalKeys:
    """All keys of this portal, the current one first."""

    keys: list[PortalKeyView]
    proves: str
    """What a signature of the portal proves, and what not."""


@dataclass(frozen=True)
class SignatureView:
    """A publisher's signature over the current version of a run."""

    run: str
    version: int
    key_id: str
    public_key: str
    """PEM. Whose it is the portal cannot know: compare it with what the publisher says elsewhere."""
    signed_at: datetime
    files: int
    """Files it vouches for."""
    unsigned: list[str]
    """Released files it says nothing of: they lie elsewhere, or outside the release's folder."""
    url: str
    """Where the signature itself is."""
    proves: str
