"""From patterns to full lists: what one manifest line stands for.

Pure: no file is opened. Every function expects a manifest that `read_manifest` accepted.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from portal.manifest.schema import (
    Checkpoint,
    Chunk,
    DataOrder,
    File,
    Geometry,
    Manifest,
    NamePattern,
    Stage,
    StepPattern,
)


@dataclass(frozen=True)
class StageEntry:
    """A stage with its batch geometry filled in from the run's."""

    name: str
    first_step: int
    last_step: int
    first_local_step: int
    sequence_length: int | None
    row_length: int | None
    rows_per_step: int | None
    tokens_per_step: int | None
    note: str = ""

    def local_step(self, step: int) -> int:
        """The stage's own number of a global step."""
        return step - self.first_step + self.first_local_step


@dataclass(frozen=True)
class FileEntry:
    """One file a manifest names; ``path`` is relative to the release or a URI."""

    path: str
    size: int | None = None
    sha256: str | None = None
    role: str | None = None


@dataclass(frozen=True)
class CheckpointEntry:
    """One checkpoint: the state after ``step`` (None for a soup, which has ``parents``)."""

    step: int | None
    stage: str | None
    local_step: int | None
    labels: tuple[str, ...]
    tokens: int | None
    tokens_declared: bool
    """True when the manifest states the tokens, False when they were computed from the stages."""
    dtype: str | None
    contains: tuple[str, ...]
    location: str | None
    files: tuple[FileEntry, ...]
    parents: tuple[dict[str, Any], ...] = ()
    missing: bool = False
    note: str = ""
    where: str = ""
    """The manifest line it came from, for messages."""


@dataclass(frozen=True)
class ChunkEntry:
    """One chunk of data with its files and format."""

    name: str
    position: int
    files: tuple[FileEntry, ...]
    format: str
    dtype: str | None
    header: str | None
    dialect: str | None
    column: str | None
    rows: int | None
    row_length: int | None
    tokens: int | None
    sources: dict[str, float] = field(default_factory=dict)
    skipped: bool = False
    note: str = ""
    where: str = ""


@dataclass(frozen=True)
class OrderEntry:
    """One interval of the data order with chunk names expanded and confidence filled in."""

    position: int
    first_step: int
    last_step: int
    chunks: tuple[str, ...]
    kind: str
    file: FileEntry | None
    dtype: str | None
    rng: str | None
    seed: int | None
    draw: int
    per_chunk: bool
    steps_per_chunk: int | None
    start: int
    confidence: str
    assumption: str
    repeats: str = ""
    where: str = ""


def stages_of(manifest: Manifest) -> list[StageEntry]:
    """The stages in step order; a run without stages has one named after its kind."""
    training = manifest.training
    if not manifest.stages:
        if not training.last_step:
            return []
        whole = Stage(name=manifest.kind, first_step=training.first_step, last_step=training.last_step)
        return [_stage(whole, training)]
    return [_stage(s, training) for s in sorted(manifest.stages, key=lambda s: s.first_step)]


def checkpoints_of(manifest: Manifest) -> list[CheckpointEntry]:
    """Every checkpoint, patterns expanded, sorted by step (soups last)."""
    stages = stages_of(manifest)
    found = [
        _complete(entry, stages)
        for number, checkpoint in enumerate(manifest.checkpoints)
        for entry in expand_checkpoint(checkpoint, f"checkpoints[{number}]", stages)
    ]
    return sorted(found, key=lambda c: (c.step is None, c.step or 0))


def chunks_of(manifest: Manifest) -> list[ChunkEntry]:
    """Every chunk in the order of the manifest."""
    found = [e for number, c in enumerate(manifest.data.chunks) for e in expand_chunk(c, number, manifest)]
    return [replace(e, position=k) for k, e in enumerate(found)]


def orders_of(manifest: Manifest) -> list[OrderEntry]:
    """Every order interval, sorted by first step."""
    entries = [_order(order, number) for number, order in enumerate(manifest.data.order)]
    return [replace(e, position=k) for k, e in enumerate(sorted(entries, key=lambda e: e.first_step))]


def fill(template: str, values: dict[str, Any]) -> str:
    """``str.format`` restricted to plain names: no attribute or index access, so a hostile template reads nothing."""
    return "".join(_filled_parts(template, values))


def tokens_after(step: int, stages: list[StageEntry]) -> int | None:
    """Tokens read by the end of ``step``, summed stage by stage; None where a batch size is not known."""
    total = 0
    for stage in stages:
        if stage.first_step > step:
            break
        if stage.tokens_per_step is None:
            return None
        total += (min(step, stage.last_step) - stage.first_step + 1) * stage.tokens_per_step
    return total


def _filled_parts(template: str, values: dict[str, Any]) -> Iterator[str]:
    for literal, name, spec, conversion in string.Formatter().parse(template):
        yield literal
        if name is None:
            continue
        if name not in values or conversion:
            raise KeyError(name)
        yield format(values[name], spec or "")


def _stage(own: Stage, run: Geometry) -> StageEntry:
    length = own.sequence_length or run.sequence_length
    rows = own.rows_per_step or run.rows_per_step
    tokens = own.tokens_per_step or (
        run.tokens_per_step if own.rows_per_step is None and own.sequence_length is None else None
    )
    if tokens is None and length and rows:
        tokens = length * rows
    return StageEntry(
        name=own.name,
        first_step=own.first_step,
        last_step=own.last_step,
        first_local_step=own.first_local_step,
        sequence_length=length,
        row_length=own.row_length or run.row_length or length,
        rows_per_step=rows,
        tokens_per_step=tokens,
        note=own.note,
    )


def expand_checkpoint(checkpoint: Checkpoint, where: str, stages: list[StageEntry]) -> Iterator[CheckpointEntry]:
    if checkpoint.steps is None:
        yield _checkpoint(checkpoint, checkpoint.step, checkpoint.index_from, where, stages)
        return
    for k, step in enumerate(_steps(checkpoint.steps)):
        yield _checkpoint(checkpoint, step, checkpoint.index_from + k, where, stages)


def expand_chunk(chunk: Chunk, number: int, manifest: Manifest) -> Iterator[ChunkEntry]:
    """The chunks that one line stands for; ``position`` counts inside the line."""
    for position, (index, name) in enumerate(expand_names(chunk.name, chunk.names)):
        files = _files(chunk.files, {"index": index, "name": name})
        yield _chunk(chunk, name, position, files, f"data.chunks[{number}]", manifest)


def _steps(pattern: StepPattern) -> list[int]:
    if pattern.values is not None:
        return list(pattern.values)
    first, every, count = pattern.first or 0, pattern.every or 1, pattern.count or 1
    return [first + k * every for k in range(count)]


def _checkpoint(c: Checkpoint, step: int | None, index: int, where: str, stages: list[StageEntry]) -> CheckpointEntry:
    stage = c.stage or _stage_name_at(step, stages)
    local = c.local_step
    if local is None and step is not None:
        local = next((s.local_step(step) for s in stages if s.name == stage), step)
    values = {"index": index, "step": step, "local_step": local, "stage": stage}
    return CheckpointEntry(
        step=step,
        stage=stage,
        local_step=local,
        labels=tuple(fill(label, values) for label in c.labels),
        tokens=c.tokens if c.steps is None else None,
        tokens_declared=c.tokens is not None and c.steps is None,
        dtype=c.dtype,
        contains=tuple(c.contains),
        location=fill(c.location, values) if c.location else None,
        files=_files(c.files, values),
        parents=tuple(p.model_dump(exclude_none=True) for p in c.parents),
        missing=c.missing,
        note=c.note,
        where=where,
    )


def _stage_name_at(step: int | None, stages: list[StageEntry]) -> str | None:
    if step is None or not stages:
        return None
    # Step 0 is the initial model: it belongs to the first stage, before its first step.
    return next((s.name for s in stages if step <= s.last_step), stages[-1].name)


def _complete(entry: CheckpointEntry, stages: list[StageEntry]) -> CheckpointEntry:
    if entry.tokens is not None or entry.step is None:
        return entry
    return replace(entry, tokens=tokens_after(entry.step, stages))


def expand_names(name: str | None, pattern: NamePattern | None) -> Iterator[tuple[int, str]]:
    if pattern is None:
        yield 0, name or ""
        return
    for index in range(pattern.first, pattern.first + pattern.count):
        yield index, fill(pattern.pattern, {"index": index})


def _files(files: list[File], values: dict[str, Any]) -> tuple[FileEntry, ...]:
    return tuple(
        _file(f, {**values, "shard": shard} if f.shards else values)
        for f in files
        for shard in (range(f.shards.first, f.shards.first + f.shards.count) if f.shards else (0,))
    )


def _file(f: File, values: dict[str, Any]) -> FileEntry:
    return FileEntry(fill(f.path, values), f.size, f.sha256, f.role)


def _chunk(
    c: Chunk, name: str, position: int, files: tuple[FileEntry, ...], where: str, manifest: Manifest
) -> ChunkEntry:
    row_length = c.row_length or manifest.training.row_length or manifest.training.sequence_length
    tokens = c.tokens if c.tokens is not None else (c.rows * row_length if c.rows is not None and row_length else None)
    return ChunkEntry(
        name=name,
        position=position,
        files=files,
        format=c.format,
        dtype=c.dtype,
        header=c.header,
        dialect=c.dialect,
        column=c.column,
        rows=c.rows,
        row_length=row_length,
        tokens=tokens,
        sources=dict(c.sources),
        skipped=c.skipped,
        note=c.note,
        where=where,
    )


def _order(o: DataOrder, number: int) -> OrderEntry:
    chunks = tuple(o.chunks) if isinstance(o.chunks, list) else tuple(name for _, name in expand_names(None, o.chunks))
    default = {"sequential": "exact", "index": "exact", "permutation": "reconstructed", "unknown": "unknown"}[o.kind]
    return OrderEntry(
        position=number,
        first_step=o.first_step,
        last_step=o.last_step,
        chunks=chunks,
        kind=o.kind,
        file=_file(o.file, {}) if o.file else None,
        dtype=o.dtype,
        rng=o.rng,
        seed=o.seed,
        draw=o.draw,
        per_chunk=o.per_chunk,
        steps_per_chunk=o.steps_per_chunk,
        start=o.start,
        confidence=o.confidence or default,
        assumption=o.assumption,
        repeats=o.repeats,
        where=f"data.order[{number}]",
    )
