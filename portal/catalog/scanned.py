"""What a scan needs of one release, in a constant number of queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import orjson
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from portal.manifest import Manifest
from portal.models import Checkpoint, Chunk, ChunkSpan, DataOrder, File, FileLocation, MetricSeries, Release, Run, Stage


class ReadFile(Protocol):
    """A file whose bytes a scan reads: of the catalog, or of a release that is not recorded yet."""

    @property
    def path(self) -> str:
        """Path inside its release, or the part of a URI that names the file."""

    @property
    def role(self) -> str:
        """What it is for."""

    @property
    def size(self) -> int | None:
        """Bytes, where known."""

    @property
    def sha256(self) -> str | None:
        """Of its bytes, where known."""

    @property
    def uri(self) -> str:
        """Where it lies."""

    @property
    def state(self) -> str:
        """As in `portal.models.FileLocation`."""


class ScannedFile(NamedTuple):
    """A file with its owner and where it lies; a plain row, because a run has thousands."""

    location_id: int
    path: str
    role: str
    size: int | None
    sha256: str | None
    uri: str
    modified_ns: int | None
    state: str
    verified_at: datetime | None
    checkpoint_id: int | None
    chunk_id: int | None


@dataclass(frozen=True)
class ScannedCheckpoint:
    """A checkpoint with its files."""

    checkpoint: Checkpoint
    files: list[ScannedFile]

    @property
    def step(self) -> int | None:
        """Its step; None for a soup."""
        return self.checkpoint.step


@dataclass(frozen=True)
class ScannedChunk:
    """A chunk with its files in shard order."""

    chunk: Chunk
    files: list[ScannedFile]
    read: bool
    """Whether some step of the order reads it."""


@dataclass(frozen=True)
class ScanInput:
    """One release as the checks see it."""

    run: str
    release: Release
    manifest: Manifest
    stages: list[Stage]
    checkpoints: list[ScannedCheckpoint]
    chunks: list[ScannedChunk]
    orders: list[DataOrder]
    series: list[MetricSeries]
    other_files: list[ScannedFile]
    """Files that belong to no checkpoint and no chunk."""

    @property
    def files(self) -> list[ScannedFile]:
        """Every file of the release."""
        of_checkpoints = [f for checkpoint in self.checkpoints for f in checkpoint.files]
        of_chunks = [f for chunk in self.chunks for f in chunk.files]
        return [*of_checkpoints, *of_chunks, *self.other_files]


def load_scan_input(session: Session, release_id: int) -> ScanInput:
    """Read one release whole; nothing is written."""
    release, run = session.exec(select(Release, Run).join(Run).where(Release.id == release_id)).one()
    files = _files(session, release_id)
    chunks = session.exec(select(Chunk).where(Chunk.release_id == release_id).order_by(col(Chunk.position))).all()
    read = set(session.exec(select(ChunkSpan.chunk_id).where(ChunkSpan.release_id == release_id).distinct()).all())
    return ScanInput(
        run=f"{run.org}/{run.name}",
        release=release,
        manifest=Manifest.model_validate(orjson.loads(release.manifest)),
        stages=_rows(session, Stage, release_id, Stage.first_step),
        checkpoints=[
            ScannedCheckpoint(c, list(files.get(("checkpoint", c.id), [])))
            for c in _rows(session, Checkpoint, release_id, Checkpoint.step)
        ],
        chunks=[ScannedChunk(c, files.get(("chunk", c.id), []), c.id in read) for c in chunks],
        orders=_rows(session, DataOrder, release_id, DataOrder.first_step),
        series=_rows(session, MetricSeries, release_id, MetricSeries.name),
        other_files=files.get(("release", release_id), []),
    )


def _rows(session: Session, table: Any, release_id: int, order: Any) -> list[Any]:
    return list(session.exec(select(table).where(table.release_id == release_id).order_by(order, table.id)).all())


def _files(session: Session, release_id: int) -> dict[tuple[str, int | None], list[ScannedFile]]:
    # Columns, not objects: a run has thousands of files, and publishing waits for its scan.
    statement = (
        columns(
            col(FileLocation.id),
            col(File.path),
            col(File.role),
            col(File.size),
            col(File.sha256),
            col(FileLocation.uri),
            col(FileLocation.modified_ns),
            col(FileLocation.state),
            col(FileLocation.verified_at),
            col(File.checkpoint_id),
            col(File.chunk_id),
        )
        .join(FileLocation, col(FileLocation.file_id) == col(File.id))
        .where(col(File.release_id) == release_id)
        .order_by(col(File.position), col(File.id))
    )
    found: dict[tuple[str, int | None], list[ScannedFile]] = {}
    for row in session.execute(statement):
        scanned = ScannedFile._make(row)
        owner: tuple[str, int | None] = ("release", release_id)
        if scanned.checkpoint_id is not None:
            owner = ("checkpoint", scanned.checkpoint_id)
        elif scanned.chunk_id is not None:
            owner = ("chunk", scanned.chunk_id)
        found.setdefault(owner, []).append(scanned)
    return found
