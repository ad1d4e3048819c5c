"""The answers: frozen dataclasses that pages render and that *are* the JSON.

Sizes are bytes, tokens are token ids, ``step`` is the global 1-based optimizer update.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page(Generic[Item]):
    """One page of a list; ``next`` is the cursor of the following one, None at the end."""

    items: list[Item]
    total: int
    next: str | None = None


@dataclass(frozen=True)
class FindingCounts:
    """Open findings by severity."""

    error: int = 0
    warning: int = 0
    info: int = 0


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
    last_step: int
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
class OrderView:
    """How sure the portal is of the rows of a step, and why."""

    kind: str
    confidence: str
    assumption: str
    reason: str
    """One sentence for people: why the confidence is what it is."""


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
    state: str
    """``verified``, ``unverified``, ``missing`` or ``changed``."""
    verified_at: datetime | None = None


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
class ChunkSpanView:
    """Steps in which a chunk was read; ``repeat`` is 0 the first time."""

    first_step: int
    last_step: int
    repeat: int
    kind: str
    confidence: str


@dataclass(frozen=True)
class ChunkRow:
    """A chunk as tables and lanes show it."""

    name: str
    position: int
    format: str
    rows: int | None
    row_length: int | None
    tokens: int | None
    total_bytes: int
    sources: dict[str, float]
    skipped: bool
    spans: list[ChunkSpanView]


@dataclass(frozen=True)
class ChunkView:
    """A chunk with its files and what happened while it was read."""

    run: str
    chunk: ChunkRow
    dtype: str | None
    header: str | None
    note: str
    files: list[FileView]
    order: list[OrderView]
    events: list[EventView]
    previous: str | None
    next: str | None


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


@dataclass(frozen=True)
class SeriesView:
    """What one metric series measures."""

    name: str
    group: str
    unit: str
    reduction: str
    description: str
    column: str
    source: str
    x_kind: str
    points: int
    first_step: int | None
    last_step: int | None
    nan: int
    inf: int


@dataclass(frozen=True)
class Timeline:
    """All lanes of a run by step."""

    run: str
    version: int
    first_step: int
    last_step: int
    stages: list[StageView]
    checkpoints: list[CheckpointRow]
    chunks: list[ChunkRow]
    orders: list[OrderSpanView]
    events: list[EventView]
    findings: list[FindingView]


@dataclass(frozen=True)
class OrderSpanView:
    """One interval of the data order."""

    first_step: int
    last_step: int
    chunks: int
    order: OrderView


@dataclass(frozen=True)
class DataAtStep:
    """The data one step read, as far as it is known."""

    order: OrderView
    rows: int | None
    """Rows of the batch."""
    chunks: list[str]
    """Chunks read at this step (for a global permutation or index: all it draws from)."""
    span: ChunkSpanView | None
    readable: bool
    """True when the portal can read the rows itself (order known and bytes at hand)."""
    reason: str = ""
    """Why not, when not."""


@dataclass(frozen=True)
class MetricAtStep:
    """The value of a series at exactly this step; ``special`` is nan, +inf or -inf."""

    name: str
    group: str
    unit: str
    value: float | None
    special: str | None


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
    """Checkpoint files and chunk files, each once."""
    total_bytes: int
    unknown_sizes: int
    """Files whose size is not known and is therefore not in ``total_bytes``."""


@dataclass(frozen=True)
class TokenRow:
    """One row of a batch."""

    position: int
    """0-based place in the batch."""
    chunk: str
    row: int
    source: str | None
    token_ids: list[int]
    pieces: list[str] | None
    document_starts: list[int]
    """Indexes of tokens that begin a document inside the row."""
    starts_mid_document: bool
    file: str
    offset: int
    length: int
    fault: str | None = None
    """Set when this row could not be read; its ids are then empty."""
    special: list[int] = field(default_factory=list)
    """Indexes of tokens that the tokenizer marks as special (end of text, padding, ...)."""


@dataclass(frozen=True)
class TokenBatch:
    """The rows one step read."""

    run: str
    step: int
    order: OrderView
    rows_total: int
    first: int
    rows: list[TokenRow]
    vocabulary: int | None
    tokenizer: bool
    """Whether pieces could be decoded."""
    explain: dict[str, Any] = field(default_factory=dict)
    """Bytes and reads it took."""


@dataclass(frozen=True)
class SeriesBuckets:
    """One series between two steps: parallel columns, one entry per bucket (or point), by ascending step.

    ``kind: "buckets"`` fills the columns from ``first_step`` to ``negative_inf``; ``min``, ``max``, ``mean`` and
    ``last`` are over the finite values and null where a bucket has none, ``min_step`` and ``max_step`` are the
    exact steps of the extremes. ``kind: "raw"`` fills ``step``, ``value`` and ``special``: every point.
    With another ``x`` than ``step``, columns ending in ``_x`` (or ``x``) hold it.
    """

    name: str
    group: str
    unit: str
    reduction: str
    kind: str
    points: int
    """Points between the two steps, over all buckets."""
    first_step: list[int] = field(default_factory=list)
    last_step: list[int] = field(default_factory=list)
    min: list[float | None] = field(default_factory=list)
    max: list[float | None] = field(default_factory=list)
    mean: list[float | None] = field(default_factory=list)
    last: list[float | None] = field(default_factory=list)
    min_step: list[int | None] = field(default_factory=list)
    max_step: list[int | None] = field(default_factory=list)
    finite: list[int] = field(default_factory=list)
    nan: list[int] = field(default_factory=list)
    inf: list[int] = field(default_factory=list)
    positive_inf: list[int] = field(default_factory=list)
    negative_inf: list[int] = field(default_factory=list)
    nonfinite: list[list[int | str]] = field(default_factory=list)
    """``[step, "nan" | "+inf" | "-inf"]``, the first of ``nonfinite_total``."""
    nonfinite_listed: int = 0
    nonfinite_total: int = 0
    step: list[int] = field(default_factory=list)
    value: list[float | None] = field(default_factory=list)
    special: list[list[int | str]] = field(default_factory=list)


@dataclass(frozen=True)
class MetricAnswer:
    """Several series over one range of steps."""

    run: str
    version: int
    x: str
    first: int
    last: int
    """Steps asked for, whatever ``x`` is."""
    buckets: int
    series: list[SeriesBuckets]


@dataclass(frozen=True)
class Lineage:
    """Where a run comes from and what came of it."""

    run: str
    parents: list[dict[str, Any]]
    """Nearest first: ``{run, step, known}``."""
    children: list[dict[str, Any]]


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
