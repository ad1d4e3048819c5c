"""What the portal knows of one release by step, read once and kept: published means immutable.

A question about a step is then a search in sorted lists, which costs the same for ten
checkpoints and for ten thousand.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from portal.catalog.answers import (
    CheckpointRef,
    CheckpointRow,
    ChunkRow,
    ChunkSpanView,
    EventView,
    FindingView,
    OrderView,
    SeriesView,
)
from portal.catalog.files import FileRow
from portal.errors import StepNotRecorded
from portal.manifest.expand import OrderEntry, StageEntry, tokens_after
from portal.metrics.series import Series


class Interval(Protocol):
    """Anything that holds from one step to another."""

    @property
    def first_step(self) -> int:
        """First step it holds for."""

    @property
    def last_step(self) -> int:
        """Last step it holds for."""


Span = TypeVar("Span", bound=Interval)


class Spans(Generic[Span]):
    """Intervals of steps, found by step without looking at the others."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.all = sorted(spans, key=lambda s: s.first_step)
        self._firsts = [s.first_step for s in self.all]
        self._reach: list[int] = []
        for span in self.all:
            self._reach.append(max(span.last_step, self._reach[-1] if self._reach else span.last_step))

    def over(self, first: int, last: int) -> list[Span]:
        """Those that share a step with ``first..last``, by first step."""
        found: list[Span] = []
        k = bisect_right(self._firsts, last) - 1
        while k >= 0 and self._reach[k] >= first:
            if self.all[k].last_step >= first:
                found.append(self.all[k])
            k -= 1
        return found[::-1]

    def at(self, step: int) -> list[Span]:
        """Those that hold at ``step``."""
        return self.over(step, step)


@dataclass(frozen=True)
class OrderFact:
    """One interval of the data order with its explanation."""

    id: int
    entry: OrderEntry
    view: OrderView

    @property
    def first_step(self) -> int:
        """First step it rules."""
        return self.entry.first_step

    @property
    def last_step(self) -> int:
        """Last step it rules."""
        return self.entry.last_step


@dataclass(frozen=True)
class SpanFact:
    """Steps in which a chunk was read."""

    chunk: str
    order: OrderFact
    view: ChunkSpanView

    @property
    def first_step(self) -> int:
        """First step that read from it."""
        return self.view.first_step

    @property
    def last_step(self) -> int:
        """Last step that read from it."""
        return self.view.last_step


@dataclass(frozen=True)
class ChunkFact:
    """A chunk with what its reader needs to know."""

    id: int
    row: ChunkRow
    dtype: str | None
    header: str | None
    dialect: str | None
    column: str | None
    note: str


@dataclass(frozen=True)
class CheckpointFact:
    """A checkpoint with its key in the catalog."""

    id: int
    row: CheckpointRow
    parents: list[dict[str, Any]]

    @property
    def ref(self) -> CheckpointRef:
        """How it is named as a neighbour."""
        return CheckpointRef(self.row.step or 0, self.row.labels, self.row.tokens, self.row.missing)


@dataclass(frozen=True)
class ConfigFact:
    """A config with its file, before addresses are filled in."""

    first_step: int
    last_step: int | None
    values: dict[str, Any]
    code: dict[str, Any]
    file: FileRow | None
    note: str


@dataclass(frozen=True)
class SeriesFact:
    """A series and where its packed numbers lie."""

    view: SeriesView
    location: str


@dataclass(frozen=True)
class SeriesGroup:
    """Series that were logged at the same steps, so that one search finds a step in all of them."""

    steps: npt.NDArray[np.int64]
    members: list[tuple[SeriesView, Series]]


@dataclass(frozen=True)
class EventFact:
    """An event as an interval."""

    first_step: int
    last_step: int
    view: EventView


@dataclass(frozen=True)
class ReleaseHead:
    """The release's own numbers."""

    id: int
    run_id: int
    version: int
    root: str
    published_at: datetime
    published_by: str | None
    kind: str
    title: str
    description: str
    synthetic: bool
    parent_run: str | None
    parent_step: int | None
    license: dict[str, Any]
    links: dict[str, str]
    model: dict[str, Any]
    sequence_length: int | None
    row_length: int | None
    rows_per_step: int | None
    tokens_per_step: int | None
    first_step: int
    last_step: int
    cadence: int | None
    tokens: int | None
    file_count: int
    total_bytes: int


@dataclass(frozen=True)
class ReleaseFacts:
    """One release by step; every list is sorted by step."""

    run: str
    head: ReleaseHead
    stages: list[StageEntry]
    checkpoints: list[CheckpointFact]
    """By step; soups, which have none, last."""
    chunks: dict[str, ChunkFact]
    """By name, in the order of the manifest."""
    orders: Spans[OrderFact]
    spans: Spans[SpanFact]
    configs: list[ConfigFact]
    series: list[SeriesFact]
    events: list[EventView]
    findings: list[FindingView]
    tokenizer: FileRow | None
    loose_files: dict[str, FileRow]
    """Files that belong to no checkpoint and no chunk, by path."""
    at_hand: frozenset[str]
    """Chunks whose files all lie on this machine."""
    unknown_sizes: int = 0
    """Files whose size nobody told, which the head's ``total_bytes`` leaves out."""
    private_to: str | None = None
    """The organisation whose tokens alone may read it; None: anybody."""
    private_parents: dict[str, str] = field(default_factory=dict)
    """Private runs that it says it began from, with their organisations."""
    elsewhere: dict[str, tuple[FileRow, ...]] = field(default_factory=dict)
    """Files of the other chunks that a store could read, by chunk."""
    chunk_rows: dict[str, int | None] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    """Steps of the checkpoints that have one, in the order of `checkpoints`."""
    released: list[CheckpointFact] = field(default_factory=list)
    """Checkpoints that have a step and are not declared missing."""
    released_steps: list[int] = field(default_factory=list)
    events_by_step: Spans[EventFact] = field(default_factory=lambda: Spans[EventFact]([]))
    findings_by_step: dict[int, list[FindingView]] = field(default_factory=dict)
    labels: dict[str, CheckpointFact] = field(default_factory=dict)
    series_by_name: dict[str, SeriesFact] = field(default_factory=dict)
    opened: dict[str, list[SeriesGroup]] = field(default_factory=dict)
    """The series as arrays, by the folder they were opened in; filled when first asked for."""
    data_files: dict[str, list[FileRow]] = field(default_factory=dict)
    """Files of the chunks read so far, by chunk."""
    kept: dict[tuple[str, ...], Any] = field(default_factory=dict)
    """What was worked out of these facts and is as immutable as they are, e.g. revisions of the repositories."""

    @property
    def key(self) -> str:
        """Tells this release from every other, also of another database."""
        return f"{self.head.id} {self.head.version} {self.head.published_at.isoformat()}"

    @property
    def last_step(self) -> int:
        """The last step there is: as published, or where nobody said, that of the last checkpoint."""
        return max(self.head.last_step, self.steps[-1] if self.steps else 0)

    def loose_file(self, named: str) -> FileRow | None:
        """A file that belongs to no checkpoint and no chunk, as the manifest names it: by its path, or by its address."""
        return self.loose_files.get(named) or next(
            (file for file in self.loose_files.values() if any(p.uri == named for p in file.places)), None
        )

    def check_step(self, step: int) -> None:
        """Raise StepNotRecorded, with the valid range and the nearest step, when the run has no such step."""
        last = self.last_step
        if 0 <= step <= last:
            return
        nearest = 0 if step < 0 else last
        shown = step if abs(step) < 10**18 else f"{'-' if step < 0 else ''}a number of {len(str(abs(step)))} digits"
        known = f"{self.run} has steps 0 (the initial model) to {last}; {shown} lies outside."
        raise StepNotRecorded(
            known if last else f"How many steps {self.run} took is not known, so {shown} names none of them.",
            f"Ask for step {nearest}.",
            first_step=0,
            last_step=last,
            nearest=[nearest],
        )

    def stage_at(self, step: int) -> StageEntry | None:
        """The stage a step belongs to; step 0 belongs to the first."""
        found = next((s for s in self.stages if s.first_step <= step <= s.last_step), None)
        return self.stages[0] if found is None and step == 0 and self.stages else found

    def tokens_after(self, step: int) -> int | None:
        """Tokens read by the end of a step."""
        return tokens_after(step, self.stages)

    def rows_between(self, first: int, last: int) -> int | None:
        """Rows read in these steps; None where the rows of a step are not known."""
        total = 0
        for stage in self.stages:
            steps = min(last, stage.last_step) - max(first, stage.first_step) + 1
            if steps > 0 and stage.rows_per_step is None:
                return None
            total += max(steps, 0) * (stage.rows_per_step or 0)
        return total

    def rows_per_step(self, first: int, last: int) -> int | None:
        """Rows of each step where all these steps read equally many; None where they do not or nobody knows."""
        sizes = {s.rows_per_step for s in self.stages if s.first_step <= last and s.last_step >= first}
        return sizes.pop() if len(sizes) == 1 else None

    def checkpoint_before(self, step: int) -> CheckpointFact | None:
        """The latest released checkpoint at or before ``step``."""
        k = bisect_right(self.released_steps, step)
        return self.released[k - 1] if k else None

    def checkpoint_after(self, step: int) -> CheckpointFact | None:
        """The first released checkpoint after ``step``."""
        k = bisect_right(self.released_steps, step)
        return self.released[k] if k < len(self.released) else None

    def checkpoint_at(self, step: int) -> CheckpointFact | None:
        """The checkpoint of exactly ``step``, a released one where there are several; declared losses count."""
        first, end = bisect_left(self.steps, step), bisect_right(self.steps, step)
        same = self.checkpoints[first:end]
        return next((c for c in same if not c.row.missing), same[0] if same else None)

    def nearest_steps(self, step: int) -> list[int]:
        """Steps of the released checkpoints around ``step``."""
        k = bisect_left(self.released_steps, step)
        return sorted(set(self.released_steps[max(0, k - 1) : k + 1]))
