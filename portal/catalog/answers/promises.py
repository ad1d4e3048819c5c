"""What the portal promises, with when each was last looked after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class FilesLooked:
    """Files of current versions, by what the last look at them told."""

    total: int
    verified: int
    """All their bytes were compared with what was published, and are right."""
    sampled: int
    """Some of their blocks were."""
    unverified: int
    """Nobody published a sha256 of them, or nobody has looked yet."""
    wrong: int
    """Missing, changed, or not to be reached."""
    oldest: datetime | None
    """When the one that waits longest was looked at; None: none ever was."""
    newest: datetime | None


@dataclass(frozen=True)
class HistoryLooked:
    """How far the history has come, and when somebody checked it."""

    entries: int
    head: str
    signed_at: datetime | None
    """When its head was last signed; None where nobody signs it."""
    verified_at: datetime | None
    """When the portal last followed the whole chain; None: never yet."""
    verified_entries: int


@dataclass(frozen=True)
class RunsLooked:
    """What the honesty scan and replays have told of current versions."""

    runs: int
    open_findings: int
    replays: int
    """Replays that ended with a verdict."""
    exact: int
    """Those that were bit for bit what was published."""


@dataclass(frozen=True)
class Promises:
    """Everything the page tells."""

    files: FilesLooked
    history: HistoryLooked
    runs: RunsLooked
    verify_every: str
    """How often files are looked at by themselves, e.g. ``30d``; empty: only when somebody asks."""
    key_id: str | None
    """The key that checkpoints, pairs and the history are signed with; None: nothing is signed."""
