"""Checkpoints and the evaluations made on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from portal.catalog.answers.files import FileView
from portal.catalog.answers.findings import FindingView
from portal.catalog.answers.verdicts import VerdictView


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
    evaluations: Sequence[EvaluationView]


@dataclass(frozen=True)
class CheckpointDetail(CheckpointView):
    """A checkpoint with all that leads to it and from it."""

    evaluations: Sequence[EvaluationChange]
    seen: DataSeen | None
    """What it has read; None for a checkpoint without a step."""
    config_changes: list[ConfigChange]
    """Settings that differ from those of the checkpoint before."""
    derived: list[DerivedRun]
    """Runs that started from it."""
    namesake: CheckpointRef | None = None
    """Another checkpoint whose label is this step's number."""
    verdicts: list[VerdictView] = field(default_factory=list)
    """Jobs that began with it or made it again, and how near they came; the strongest first."""


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
class EvaluationChange(EvaluationView):
    """A result beside the one before it of the same task, metric, setting, shots and version."""

    previous_step: int | None = None
    """The latest step before at which anything was evaluated, where it has the same measure."""
    previous_value: float | None = None
    change: float | None = None


@dataclass(frozen=True)
class SourceTokens:
    """Tokens of one source."""

    source: str
    tokens: int


@dataclass(frozen=True)
class DataSeen:
    """What a checkpoint has read, from the first step to its own."""

    tokens: int | None
    chunks: int
    """Chunks read to their last step."""
    reading: list[str]
    """Chunks read in part, up to the first ten."""
    reading_total: int
    again: int
    """Chunks of these that were read more than once."""
    sources: list[SourceTokens]
    """By tokens, most first. A chunk read in part counts with its whole mix in proportion."""
    unattributed: int | None
    """Tokens of chunks whose source mix is not known; None where tokens are not known either."""


@dataclass(frozen=True)
class ConfigChange:
    """A setting that is another one from a step on; None stands for not set."""

    key: str
    before: Any
    after: Any
    first_step: int


@dataclass(frozen=True)
class DerivedRun:
    """A run that started from a checkpoint."""

    run: str
    kind: str
    title: str


@dataclass(frozen=True)
class Measure:
    """One metric of one task under one setting, over all the steps it was taken at."""

    suite: str
    task: str
    metric: str
    shots: int | None
    version: str | None
    """Of the task, as who measured it wrote it down."""
    results: int
    first_step: int | None
    last_step: int | None
    lowest: float | None = None
    highest: float | None = None
    better: str | None = None
    """``higher`` or ``lower`` where the metric's name says which is better."""

    @property
    def best(self) -> float | None:
        """The best value, where it is known which way is better."""
        return {"higher": self.highest, "lower": self.lowest}.get(self.better or "")
