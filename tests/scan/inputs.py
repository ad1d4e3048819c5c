"""Scan inputs built from a manifest and a few file descriptions, without a database or bytes."""

from __future__ import annotations

from typing import Any

from portal.catalog.scanned import ScanInput, ScannedCheckpoint, ScannedChunk, ScannedFile
from portal.manifest import Manifest, checkpoints_of, chunks_of
from portal.models import Checkpoint, Chunk, MetricSeries, Release

MINIMAL = {"format": "llm360-portal/release/1", "run": "lab/run"}


def scanned_file(path: str, role: str = "weights", **known: Any) -> ScannedFile:
    values: dict[str, Any] = {
        "location_id": 1,
        "size": 10,
        "sha256": None,
        "uri": f"file:///{path}",
        "modified_ns": 1,
        "state": "verified",
        "verified_at": None,
        "checkpoint_id": None,
        "chunk_id": None,
    }
    return ScannedFile(path=path, role=role, **(values | known))


def scan_input_of(
    document: dict[str, Any],
    weights: dict[int, list[ScannedFile]] | None = None,
    other_files: list[ScannedFile] | None = None,
    series: list[MetricSeries] | None = None,
) -> ScanInput:
    """What a scan sees of ``document``; ``weights`` holds the files of the checkpoint of each step."""
    manifest = Manifest.model_validate(MINIMAL | document)
    training = manifest.training
    release = Release(
        id=1, run_id=1, first_step=training.first_step, last_step=training.last_step, cadence=manifest.cadence
    )
    checkpoints = [
        ScannedCheckpoint(
            Checkpoint(
                id=k,
                release_id=1,
                step=c.step,
                dtype=c.dtype,
                missing=c.missing,
                tokens=c.tokens,
                tokens_declared=c.tokens_declared,
                labels=list(c.labels),
                note=c.note,
            ),
            (weights or {}).get(c.step if c.step is not None else -1, []),
        )
        for k, c in enumerate(checkpoints_of(manifest))
    ]
    chunks = [
        ScannedChunk(
            Chunk(
                id=k,
                release_id=1,
                name=c.name,
                rows=c.rows,
                row_length=c.row_length,
                tokens=c.tokens,
                skipped=c.skipped,
            ),
            [],
            True,
        )
        for k, c in enumerate(chunks_of(manifest))
    ]
    return ScanInput("lab/run", release, manifest, [], checkpoints, chunks, [], series or [], other_files or [])
