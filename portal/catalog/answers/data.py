"""Chunks, the order in which they were read, and the rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from portal.catalog.answers.checkpoints import CheckpointRef
from portal.catalog.answers.files import FileView
from portal.catalog.answers.findings import EventView


@dataclass(frozen=True)
class OrderView:
    """How sure the portal is of the rows of a step, and why."""

    kind: str
    confidence: str
    assumption: str
    reason: str
    """One sentence for people: why the confidence is what it is."""


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
    checkpoints: list[CheckpointRef] = field(default_factory=list)
    """Released while it was read, by step."""
    step_rows: list[StepRows] = field(default_factory=list)
    """Some of the steps that read it with the rows they read, where the order says so without a file."""
    readable: bool = False
    """Whether the portal can read its rows, here or where they lie."""
    reason: str = ""
    """Why not, where not."""
    elsewhere: bool = False
    """Whether reading them asks another server."""
    tokenizer: str | None = None


@dataclass(frozen=True)
class StepRows:
    """Rows of one chunk that one step read, in the order of the batch."""

    step: int
    rows: list[int]
    """Up to the first eight."""
    total: int


@dataclass(frozen=True)
class ChunkSample:
    """Rows of a chunk as they lie in its files, whatever the order in which they were read."""

    run: str
    chunk: str
    rows_total: int
    rows: list[TokenRow]
    """``position`` is the place in this list, not in a batch."""
    tokenizer: bool


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
    """True when the portal can read the rows itself (order known and bytes at hand, or in a store it reads)."""
    reason: str = ""
    """Why not, when not."""
    elsewhere: bool = False
    """True when reading them asks another server, which takes its time and may fail."""


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
