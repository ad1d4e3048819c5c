"""The versions of a run: what each changed and why, and what became of those that were withdrawn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class WithdrawalView:
    """What is left of a version that was withdrawn."""

    version: int
    withdrawn_at: datetime
    withdrawn_by: str
    reason: str
    purged_at: datetime | None = None
    """Since when the portal's own store no longer keeps its bytes; None while it does."""


@dataclass(frozen=True)
class FileChanges:
    """What a version did to the files of the one before it."""

    added: int = 0
    changed: int = 0
    """Files of the same checkpoint, chunk or path with other bytes."""
    removed: int = 0


@dataclass(frozen=True)
class VersionView:
    """One published version of a run."""

    version: int
    published_at: datetime
    published_by: str | None
    """None: on the portal's own machine, by its operator."""
    reason: str
    """Why it was published after another one; empty where nobody said."""
    changes: FileChanges | None
    """None for a first version, and for one of before this was counted."""
    fingerprint: str
    """sha256 over manifest and file digests: it names the version by content."""
    checkpoints: int
    files: int
    total_bytes: int
    current: bool
    permalink: str
    withdrawn: WithdrawalView | None = None
