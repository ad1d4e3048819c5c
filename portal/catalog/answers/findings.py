"""What the portal found out, and what happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class FindingCounts:
    """Open findings by severity."""

    error: int = 0
    warning: int = 0
    info: int = 0


@dataclass(frozen=True)
class FindingReviewView:
    """What a person said of a finding."""

    state: str
    """``explained``, or ``open`` again."""
    note: str
    by: str
    at: datetime


@dataclass(frozen=True)
class FindingView:
    """Something the portal found out itself."""

    id: str
    code: str
    severity: str
    message: str
    step: int | None
    evidence: dict[str, Any]
    state: str
    found_at: datetime
    fixed_at: datetime | None = None
    """When it was withdrawn; one that is open again keeps the time it was withdrawn before."""
    reviews: list[FindingReviewView] = field(default_factory=list)
    """What people said of it, the first first."""


@dataclass(frozen=True)
class FoundFinding:
    """A finding before it is stored; ``subject`` tells two findings of one code and step apart."""

    code: str
    severity: str
    """``error`` (a claim is false), ``warning`` (a claim cannot hold as written) or ``info``."""
    message: str
    step: int | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    subject: str = ""


@dataclass(frozen=True)
class EventView:
    """Something that happened at a step."""

    step: int | None
    last_step: int | None
    kind: str
    chunk: str | None
    note: str
    evidence: str
    origin: str


@dataclass(frozen=True)
class FindingGroup:
    """Findings of one kind, severity and state; a run may have hundreds of one kind."""

    code: str
    severity: str
    state: str
    count: int
    first_step: int | None
    last_step: int | None
    first: list[FindingView]
    """The first few, by step."""
