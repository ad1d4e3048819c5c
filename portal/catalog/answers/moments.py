"""A moment of a run: one address for what lay at a step, a row or a few tokens, in one version of the release."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from portal.catalog.answers.data import OrderView
from portal.catalog.answers.steps import StepView


@dataclass(frozen=True)
class CheckpointMark:
    """A checkpoint by what its bytes are."""

    step: int
    labels: list[str]
    missing: bool
    sha256: str | None
    """Of its one weights file; of the `sha256sum` list of them, by path, where there are several; null unhashed."""
    of: list[str]
    """The files `sha256` speaks of."""


@dataclass(frozen=True)
class MomentRow:
    """The row a moment lies in."""

    position: int
    """0-based place in the batch."""
    rows_total: int
    chunk: str
    row: int
    """0-based place in the chunk."""
    source: str | None
    file: str
    file_sha256: str | None
    offset: int
    """Where the row's bytes begin in the file."""
    length: int
    ids: int
    """Token ids of the whole row."""
    ids_sha256: str | None
    """sha256 over the row's ids in decimal digits, joined by single spaces."""
    order: OrderView


@dataclass(frozen=True)
class MomentTokens:
    """Tokens ``first`` to ``last`` of the row, both included, counted from 0."""

    first: int
    last: int
    token_ids: list[int]
    pieces: list[str] | None
    """null without a tokenizer."""
    ids_sha256: str
    """sha256 over these ids in decimal digits, joined by single spaces."""


@dataclass(frozen=True)
class Moment:
    """What one version of a release says of a run, a step, a row of its batch, or some tokens of the row."""

    run: str
    title: str
    synthetic: bool
    version: int
    current_version: int
    published_at: datetime
    fingerprint: str
    """sha256 over the release's manifest and all file digests: it names the version by content."""
    permalink: str
    """Address of exactly this, in exactly this version; it stays."""
    page: str
    """Address of the page that shows it in the current version."""
    at: StepView | None
    """null for the run as a whole."""
    before: CheckpointMark | None
    """The state the step started from is this checkpoint or came after it."""
    saved: CheckpointMark | None
    """The checkpoint of exactly this step."""
    after: CheckpointMark | None
    row: MomentRow | None
    tokens: MomentTokens | None
    fault: str = ""
    """Why the row could not be read, where it was asked for and could not."""
