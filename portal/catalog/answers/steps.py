"""What lies at one step, and the pair of checkpoint and data there."""

from __future__ import annotations

from dataclasses import dataclass, field

from portal.catalog.answers.checkpoints import CheckpointRef, CheckpointView
from portal.catalog.answers.data import DataAtStep, OrderView
from portal.catalog.answers.files import FileView
from portal.catalog.answers.findings import EventView, FindingView
from portal.catalog.answers.metrics import MetricAtStep
from portal.catalog.answers.runs import ConfigView, StageView


@dataclass(frozen=True)
class StepView:
    """Everything that lies at one step."""

    run: str
    step: int
    stage: StageView | None
    local_step: int | None
    tokens: int | None
    """Read by the end of this step."""
    metrics: list[MetricAtStep]
    before: CheckpointRef | None
    """Latest checkpoint at or before ``step - 1``: the state this step started from is at or after it."""
    at: CheckpointRef | None
    after: CheckpointRef | None
    data: DataAtStep
    config: ConfigView | None
    events: list[EventView]
    findings: list[FindingView]


@dataclass(frozen=True)
class PairChunk:
    """A chunk that a pair needs, with the rows it needs of it."""

    name: str
    files: list[FileView]
    rows: int | None
    first_step: int
    last_step: int


@dataclass(frozen=True)
class PairData:
    """The data half of a pair."""

    direction: str
    """``next``, ``previous`` or ``batch``."""
    first_step: int
    last_step: int
    rows: int | None
    tokens: int | None
    order: OrderView
    """The weakest order of these steps."""
    chunks: list[PairChunk]
    order_files: list[FileView] = field(default_factory=list)
    """Published index files that name the rows of these steps; not counted in the pair's bytes."""


@dataclass(frozen=True)
class Pair:
    """A checkpoint with its data: what it reads next, what it read before, or one batch."""

    run: str
    version: int
    step: int
    """As asked; ``checkpoint.step`` is the nearest released checkpoint at or before it (for ``batch``: before it)."""
    checkpoint: CheckpointView
    data: PairData
    files: list[FileView]
    """Checkpoint, chunk and order files, each once."""
    total_bytes: int
    unknown_sizes: int
    """Files whose size is not known and is therefore not in ``total_bytes``."""
    unhashed: int = 0
    """Files whose sha256 nobody published: a download of them can be compared with nothing."""
    parts: list[str] = field(default_factory=list)
    """Parts of the checkpoint that were asked for; empty means all."""
