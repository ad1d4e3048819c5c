"""Runs, their stages, configs, lineage and lanes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from portal.catalog.answers.checkpoints import CheckpointRow
from portal.catalog.answers.data import ChunkRow, OrderView
from portal.catalog.answers.files import FileView
from portal.catalog.answers.findings import EventView, FindingCounts, FindingView
from portal.catalog.answers.verdicts import VerdictView
from portal.catalog.answers.versions import WithdrawalView


@dataclass(frozen=True)
class RunSummary:
    """A run as lists show it."""

    run: str
    """``org/name``."""
    title: str
    kind: str
    synthetic: bool
    parameters: int | None
    tokens: int | None
    first_step: int
    last_step: int | None
    """None where nobody said how many steps the run took."""
    checkpoints: int
    """Released and not declared missing."""
    checkpoints_expected: int
    """By the declared cadence; equals ``checkpoints`` + known missing where none is declared."""
    chunks: int
    series: int
    files: int
    total_bytes: int
    order_confidence: str
    """The weakest confidence over the run's steps; ``unknown`` without an order."""
    openness: dict[str, bool]
    """What is released: code, config, data, order, checkpoints, optimizer, metrics."""
    findings: FindingCounts
    version: int
    published_at: datetime
    verified_at: datetime | None = None
    """When a file of it was last read here and found to be what it claims; None when none ever was."""
    verified_files: int = 0
    """How many of its files were."""
    withdrawn: WithdrawalView | None = None
    """Of a run of which no version is left: what became of the last one."""
    visibility: str = "public"
    """``public``, or ``private``: read with tokens of its organisation alone."""


@dataclass(frozen=True)
class RunDetail:
    """Everything a run's head shows."""

    summary: RunSummary
    description: str
    license: dict[str, Any]
    links: dict[str, str]
    model: dict[str, Any]
    parent_run: str | None
    parent_step: int | None
    cadence: int | None
    sequence_length: int | None
    row_length: int | None
    rows_per_step: int | None
    tokens_per_step: int | None
    stages: list[StageView]
    tokenizer: str | None
    signed_by: list[str] = field(default_factory=list)
    """Ids of the keys with which publishers signed the current version; whose they are the portal cannot know."""
    verdicts: list[VerdictView] = field(default_factory=list)
    """Jobs that trained steps of it again, and how near they came; the strongest first."""
    published_by: str | None = None
    """The name of the token the current version came with; None: published on the portal's own machine."""
    unknown_sizes: int = 0
    """Files whose size is not known and is therefore not in the summary's ``total_bytes``."""


@dataclass(frozen=True)
class StageView:
    """A stage of a run."""

    name: str
    first_step: int
    last_step: int
    first_local_step: int
    sequence_length: int | None
    row_length: int | None
    rows_per_step: int | None
    tokens_per_step: int | None
    note: str


@dataclass(frozen=True)
class ConfigView:
    """Hyper-parameters in force over an interval of steps."""

    first_step: int
    last_step: int | None
    values: dict[str, Any]
    code: dict[str, Any]
    file: FileView | None
    note: str


@dataclass(frozen=True)
class SettingRow:
    """One setting over all configs of a run, beside each other."""

    key: str
    values: list[Any]
    """One a config; None where it is not set."""
    differs: bool


@dataclass(frozen=True)
class ConfigTable:
    """The settings of a run's configs as rows, for reading and comparing."""

    columns: list[tuple[int, int | None]]
    """First and last step of each config that has values."""
    rows: list[SettingRow]
    total: int
    """Settings before any were filtered out."""


@dataclass(frozen=True)
class Lineage:
    """Where a run comes from and what came of it."""

    run: str
    parents: list[dict[str, Any]]
    """Nearest first: ``{run, step, known, withdrawn}``; a run that was withdrawn is named and not known."""
    children: list[dict[str, Any]]


@dataclass(frozen=True)
class OrderSpanView:
    """One interval of the data order."""

    first_step: int
    last_step: int
    chunks: int
    order: OrderView


@dataclass(frozen=True)
class Timeline:
    """All lanes of a run by step."""

    run: str
    version: int
    first_step: int
    last_step: int | None
    """None where neither the release nor a checkpoint says it."""
    stages: list[StageView]
    checkpoints: list[CheckpointRow]
    chunks: list[ChunkRow]
    orders: list[OrderSpanView]
    events: list[EventView]
    findings: list[FindingView]
