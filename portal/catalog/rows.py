"""Rows of the catalog's tables from what publishing found; pure, one function a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from portal.catalog.recorded import RecordedConfig, RecordedFile, ReleaseRecord
from portal.manifest import CheckpointEntry, ChunkEntry, OrderEntry, stages_of
from portal.manifest.expand import tokens_after
from portal.manifest.schema import Event
from portal.metrics.series import StoredSeries

if TYPE_CHECKING:
    from portal.metrics.ingest import DetectedEvent, EvaluationRow

Value = TypeVar("Value")


def release_row(record: ReleaseRecord, run_id: int, version: int) -> dict[str, Any]:
    """The release with its sums."""
    m, training, files = record.manifest, record.manifest.training, record.all_files
    return {
        "run_id": run_id,
        "version": version,
        "manifest": record.manifest_json,
        "fingerprint": record.fingerprint,
        "root": record.root,
        "published_at": datetime.now(UTC),
        "published_by": record.by,
        "reason": record.reason,
        "kind": m.kind,
        "title": m.title,
        "description": m.description,
        "synthetic": m.synthetic,
        "parent_run": m.parent.run if m.parent else None,
        "parent_step": m.parent.step if m.parent else None,
        "license": m.license.model_dump(exclude_none=True),
        "links": dict(m.links),
        "model": m.model.model_dump(exclude_none=True),
        "sequence_length": training.sequence_length,
        "row_length": training.row_length,
        "rows_per_step": training.rows_per_step,
        "tokens_per_step": training.tokens_per_step,
        "first_step": training.first_step,
        "last_step": training.last_step,
        "cadence": m.cadence,
        "tokens": tokens_after(training.last_step, stages_of(m)),
        "checkpoint_count": sum(1 for entry, _ in record.checkpoints if not entry.missing),
        "chunk_count": len(record.chunks),
        "file_count": len(files),
        "total_bytes": _sum_sizes(files),
        "point_count": sum(s.points for s in record.series),
    }


def checkpoint_row(release_id: int, entry: CheckpointEntry, files: Sequence[RecordedFile]) -> dict[str, Any]:
    """A checkpoint; what it contains is what the manifest says, else what its files are."""
    contains = list(entry.contains) or sorted(
        {f.role for f in files} & {"weights", "optimizer", "scheduler", "rng", "data_position"}
    )
    return {
        "release_id": release_id,
        "step": entry.step,
        "stage": entry.stage,
        "local_step": entry.local_step,
        "tokens": entry.tokens,
        "tokens_declared": entry.tokens_declared,
        "dtype": entry.dtype,
        "labels": list(entry.labels),
        "contains": contains,
        "location": entry.location,
        "parents": [dict(p) for p in entry.parents],
        "missing": entry.missing,
        "file_count": len(files),
        "total_bytes": _sum_sizes(files),
        "note": entry.note,
    }


def chunk_row(release_id: int, entry: ChunkEntry, files: Sequence[RecordedFile]) -> dict[str, Any]:
    """A chunk."""
    return {
        "release_id": release_id,
        "name": entry.name,
        "position": entry.position,
        "format": entry.format,
        "dtype": entry.dtype,
        "header": entry.header,
        "dialect": entry.dialect,
        "column": entry.column,
        "rows": entry.rows,
        "row_length": entry.row_length,
        "tokens": entry.tokens,
        "sources": dict(entry.sources),
        "skipped": entry.skipped,
        "total_bytes": _sum_sizes(files),
        "note": entry.note,
    }


def order_row(release_id: int, entry: OrderEntry) -> dict[str, Any]:
    """One interval of the data order; ``spec`` is the whole entry."""
    return {
        "release_id": release_id,
        "position": entry.position,
        "first_step": entry.first_step,
        "last_step": entry.last_step,
        "kind": entry.kind,
        "spec": asdict(entry),
        "confidence": entry.confidence,
        "assumption": entry.assumption,
    }


def config_row(release_id: int, config: RecordedConfig, files: Mapping[str, int]) -> dict[str, Any]:
    """A config; ``files`` are ids by path."""
    entry = config.entry
    return {
        "release_id": release_id,
        "first_step": entry.first_step,
        "last_step": entry.last_step,
        "file_id": files.get(config.path) if config.path else None,
        "values": storable(config.values),
        "code": entry.code.model_dump(exclude_none=True) if entry.code else {},
        "note": entry.note,
    }


def series_row(release_id: int, series: StoredSeries) -> dict[str, Any]:
    """A metric series."""
    return {"release_id": release_id, **{name: storable(value) for name, value in vars(series).items()}}


def event_row(release_id: int, event: Event | DetectedEvent, origin: str) -> dict[str, Any]:
    """An event, declared or detected."""
    return {
        "release_id": release_id,
        "step": event.step,
        "last_step": event.last_step,
        "kind": event.kind,
        "chunk": event.chunk if isinstance(event, Event) else None,
        "note": storable(event.note),
        "evidence": event.evidence if isinstance(event, Event) else "",
        "origin": origin,
    }


def evaluation_row(release_id: int, row: EvaluationRow) -> dict[str, Any]:
    """One evaluation result; a standard error that is no number is left out, as it says nothing."""
    values = {name: storable(value) for name, value in vars(row).items() if name != "stderr"}
    stderr = row.stderr if row.stderr is not None and math.isfinite(row.stderr) else None
    return {"release_id": release_id, **values, "stderr": stderr}


def storable(value: Value) -> Value:
    """``value`` as both databases keep it: non-finite numbers by name, NUL and lone surrogates made visible."""
    return _storable(value)  # type: ignore[no-any-return]


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        if "\0" not in value and value.isascii():
            return value
        return value.replace("\0", "\u2400").encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "+inf" if value > 0 else "-inf"
    if isinstance(value, Mapping):
        return {_storable(str(key)): _storable(held) for key, held in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_storable(held) for held in value]
    return value


def _sum_sizes(files: Sequence[RecordedFile]) -> int:
    return sum(f.size or 0 for f in files)
