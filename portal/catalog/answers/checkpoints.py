"""Checkpoints and the evaluations made on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portal.catalog.answers.files import FileView
from portal.catalog.answers.findings import FindingView


@dataclass(frozen=True)
class CheckpointRef:
    """A checkpoint as a neighbour is named."""

    step: int
    labels: list[str]
    tokens: int | None
    missing: bool = False


@dataclass(frozen=True)
class CheckpointRow:
    """A checkpoint as tables and lanes show it, without its files."""

    step: int | None
    stage: str | None
    local_step: int | None
    tokens: int | None
    tokens_declared: bool
    labels: list[str]
    dtype: str | None
    contains: list[str]
    missing: bool
    files: int
    total_bytes: int
    location: str | None
    findings: int
    """Open findings that name this step."""
    note: str = ""


@dataclass(frozen=True)
class CheckpointView:
    """A checkpoint with its files, neighbours and findings."""

    run: str
    step: int | None
    stage: str | None
    local_step: int | None
    tokens: int | None
    tokens_declared: bool
    labels: list[str]
    dtype: str | None
    contains: list[str]
    missing: bool
    location: str | None
    parents: list[dict[str, Any]]
    note: str
    files: list[FileView]
    total_bytes: int
    previous: CheckpointRef | None
    next: CheckpointRef | None
    findings: list[FindingView]
    evaluations: list[EvaluationView]


@dataclass(frozen=True)
class EvaluationView:
    """One metric of one task at one step."""

    step: int | None
    suite: str
    task: str
    metric: str
    value: float | None
    special: str | None
    stderr: float | None
    shots: int | None
    version: str | None
    by: str
    source: str


@dataclass(frozen=True)
class Measure:
    """One metric of one task under one setting, over all the steps it was taken at."""

    suite: str
    task: str
    metric: str
    results: int
    first_step: int | None
    last_step: int | None
