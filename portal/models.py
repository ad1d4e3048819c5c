"""The tables: columns and relations, nothing else.

A *run* is a name; each publish of it is a *release* with its own version, and every other
row belongs to one release, so a correction never changes what an earlier answer said.
Steps, tokens and bytes are 64-bit. NaN and infinities never reach a column: numbers by step
live in columnar files, and single values carry a ``special`` name beside a null.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING

Key = BigInteger().with_variant(Integer, "sqlite")
"""SQLite autoincrements only INTEGER keys (which are 64-bit there anyway)."""


def _key() -> Any:
    return Field(default=None, sa_column=Column(Key, primary_key=True, autoincrement=True))


def _big(nullable: bool = False) -> Any:
    return Field(default=None if nullable else 0, sa_column=Column(BigInteger, nullable=nullable))


def _text(nullable: bool = False) -> Any:
    return Field(default=None if nullable else "", sa_column=Column(Text, nullable=nullable))


def _json(empty: type[list[Any]] | type[dict[str, Any]]) -> Any:
    return Field(default_factory=empty, sa_column=Column(JSON, nullable=False))


def _owner(table: str, nullable: bool = False) -> Any:
    return Field(
        default=None,
        sa_column=Column(Key, ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=nullable, index=False),
    )


def _now() -> Any:
    return Field(default_factory=lambda: datetime.now(UTC), sa_column=Column(DateTime(timezone=True), nullable=False))


class Run(SQLModel, table=True):
    """One training run's name and its current version."""

    __tablename__ = "run"
    __table_args__ = (UniqueConstraint("org", "name"),)

    id: int | None = _key()
    org: str = _text()
    name: str = _text()
    version: int = _big()
    """Version of the release that is shown; 0 before the first publish."""
    revision: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    """Grows when findings or file states change without a new version; kept answers are dropped then."""
    created_at: datetime = _now()


class Release(SQLModel, table=True):
    """One published version of a run: its manifest and the numbers every page shows."""

    __tablename__ = "release"
    __table_args__ = (UniqueConstraint("run_id", "version"),)

    id: int | None = _key()
    run_id: int = _owner("run")
    version: int = _big()
    manifest: str = _text()
    """Canonical JSON of the manifest as published."""
    fingerprint: str = _text()
    """sha256 over manifest and file digests; an equal one means nothing changed."""
    root: str = _text()
    """URI below which relative paths lie."""
    published_at: datetime = _now()
    kind: str = _text()
    title: str = _text()
    description: str = _text()
    synthetic: bool = False
    parent_run: str | None = _text(nullable=True)
    parent_step: int | None = _big(nullable=True)
    license: dict[str, Any] = _json(dict)
    links: dict[str, Any] = _json(dict)
    model: dict[str, Any] = _json(dict)
    sequence_length: int | None = _big(nullable=True)
    row_length: int | None = _big(nullable=True)
    rows_per_step: int | None = _big(nullable=True)
    tokens_per_step: int | None = _big(nullable=True)
    first_step: int = _big()
    last_step: int = _big()
    cadence: int | None = _big(nullable=True)
    tokens: int | None = _big(nullable=True)
    """Tokens read by the end of the last step."""
    checkpoint_count: int = _big()
    chunk_count: int = _big()
    file_count: int = _big()
    total_bytes: int = _big()
    point_count: int = _big()
    """Metric points over all series."""


class Stage(SQLModel, table=True):
    """A named interval of steps with its own numbering and batch shape."""

    __tablename__ = "stage"
    __table_args__ = (Index("ix_stage_release_id_first_step", "release_id", "first_step"),)

    id: int | None = _key()
    release_id: int = _owner("release")
    name: str = _text()
    first_step: int = _big()
    last_step: int = _big()
    first_local_step: int = _big()
    sequence_length: int | None = _big(nullable=True)
    row_length: int | None = _big(nullable=True)
    rows_per_step: int | None = _big(nullable=True)
    tokens_per_step: int | None = _big(nullable=True)
    note: str = _text()


class Checkpoint(SQLModel, table=True):
    """The state after a step (null for a soup)."""

    __tablename__ = "checkpoint"
    __table_args__ = (Index("ix_checkpoint_release_id_step", "release_id", "step"),)

    id: int | None = _key()
    release_id: int = _owner("release")
    step: int | None = _big(nullable=True)
    stage: str | None = _text(nullable=True)
    local_step: int | None = _big(nullable=True)
    tokens: int | None = _big(nullable=True)
    tokens_declared: bool = False
    dtype: str | None = _text(nullable=True)
    labels: list[Any] = _json(list)
    contains: list[Any] = _json(list)
    location: str | None = _text(nullable=True)
    parents: list[Any] = _json(list)
    missing: bool = False
    file_count: int = _big()
    total_bytes: int = _big()
    """Of files whose size is known."""
    note: str = _text()


class CheckpointLabel(SQLModel, table=True):
    """An alias of a checkpoint, as its authors named it."""

    __tablename__ = "checkpoint_label"
    __table_args__ = (Index("ix_checkpoint_label_release_id_label", "release_id", "label"),)

    id: int | None = _key()
    release_id: int = _owner("release")
    checkpoint_id: int = _owner("checkpoint")
    label: str = _text()


class Chunk(SQLModel, table=True):
    """One released piece of training data."""

    __tablename__ = "chunk"
    __table_args__ = (
        UniqueConstraint("release_id", "name"),
        Index("ix_chunk_release_id_position", "release_id", "position"),
    )

    id: int | None = _key()
    release_id: int = _owner("release")
    name: str = _text()
    position: int = _big()
    format: str = _text()
    dtype: str | None = _text(nullable=True)
    header: str | None = _text(nullable=True)
    dialect: str | None = _text(nullable=True)
    column: str | None = _text(nullable=True)
    rows: int | None = _big(nullable=True)
    row_length: int | None = _big(nullable=True)
    tokens: int | None = _big(nullable=True)
    sources: dict[str, Any] = _json(dict)
    skipped: bool = False
    total_bytes: int = _big()
    note: str = _text()


class DataOrder(SQLModel, table=True):
    """The rule by which one interval of steps read its rows."""

    __tablename__ = "data_order"
    __table_args__ = (Index("ix_data_order_release_id_first_step", "release_id", "first_step"),)

    id: int | None = _key()
    release_id: int = _owner("release")
    position: int = _big()
    first_step: int = _big()
    last_step: int = _big()
    kind: str = _text()
    spec: dict[str, Any] = _json(dict)
    """The manifest's OrderEntry as JSON."""
    confidence: str = _text()
    assumption: str = _text()


class ChunkSpan(SQLModel, table=True):
    """Steps during which a chunk was read; derived from the data order when a run is published."""

    __tablename__ = "chunk_span"
    __table_args__ = (
        Index("ix_chunk_span_release_id_first_step", "release_id", "first_step"),
        Index("ix_chunk_span_chunk_id", "chunk_id"),
    )

    id: int | None = _key()
    release_id: int = _owner("release")
    chunk_id: int = _owner("chunk")
    order_id: int = _owner("data_order")
    first_step: int = _big()
    last_step: int = _big()
    repeat: int = _big()
    """0 for the first time the chunk is read, 1 for the second, ..."""


class File(SQLModel, table=True):
    """One file of a release: identified by sha256 and size where these are known."""

    __tablename__ = "file"
    __table_args__ = (
        Index("ix_file_sha256", "sha256"),
        Index("ix_file_checkpoint_id", "checkpoint_id"),
        Index("ix_file_chunk_id", "chunk_id"),
        Index("ix_file_release_id_path", "release_id", "path"),
    )

    id: int | None = _key()
    release_id: int = _owner("release")
    checkpoint_id: int | None = _owner("checkpoint", nullable=True)
    chunk_id: int | None = _owner("chunk", nullable=True)
    path: str = _text()
    """Path inside its release, or the part of a URI that names the file."""
    role: str = _text()
    size: int | None = _big(nullable=True)
    sha256: str | None = _text(nullable=True)
    position: int = _big()
    """Order among the files of one chunk (shards) or checkpoint."""


class FileLocation(SQLModel, table=True):
    """Where the bytes of a file lie."""

    __tablename__ = "file_location"
    __table_args__ = (Index("ix_file_location_file_id", "file_id"),)

    id: int | None = _key()
    file_id: int = _owner("file")
    uri: str = _text()
    modified_ns: int | None = _big(nullable=True)
    """mtime when it was hashed (local files): a later one means it must be looked at again."""
    verified_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    state: str = _text()
    """``unverified`` (never hashed here), ``verified``, ``missing`` or ``changed``."""


class BlockDigests(SQLModel, table=True):
    """A digest of every 8 MiB block of a file, so that a range read can be checked."""

    __tablename__ = "block_digests"

    sha256: str = Field(sa_column=Column(Text, primary_key=True))
    size: int = _big()
    block_size: int = _big()
    algorithm: str = _text()
    """``blake3`` (see portal/storage/hashing.py)."""
    digests: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """32 bytes a block, in order."""


class Config(SQLModel, table=True):
    """Hyper-parameters and code in force over an interval of steps."""

    __tablename__ = "config"
    __table_args__ = (Index("ix_config_release_id_first_step", "release_id", "first_step"),)

    id: int | None = _key()
    release_id: int = _owner("release")
    first_step: int = _big()
    last_step: int | None = _big(nullable=True)
    file_id: int | None = _owner("file", nullable=True)
    values: dict[str, Any] = _json(dict)
    code: dict[str, Any] = _json(dict)
    note: str = _text()


class MetricSeries(SQLModel, table=True):
    """What one series measures and in which columnar group its numbers lie."""

    __tablename__ = "metric_series"
    __table_args__ = (UniqueConstraint("release_id", "name"),)

    id: int | None = _key()
    release_id: int = _owner("release")
    name: str = _text()
    group: str = _text()
    unit: str = _text()
    reduction: str = _text()
    description: str = _text()
    column: str = _text()
    source: str = _text()
    """File it was read from."""
    x_kind: str = _text()
    location: str = _text()
    """Folder name of its packed numbers in the metric store (see portal/metrics/series.py)."""
    points: int = _big()
    first_step: int | None = _big(nullable=True)
    last_step: int | None = _big(nullable=True)
    nan_count: int = _big()
    inf_count: int = _big()


class Event(SQLModel, table=True):
    """Something that happened at a step."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_release_id_step", "release_id", "step"),)

    id: int | None = _key()
    release_id: int = _owner("release")
    step: int | None = _big(nullable=True)
    last_step: int | None = _big(nullable=True)
    kind: str = _text()
    chunk: str | None = _text(nullable=True)
    note: str = _text()
    evidence: str = _text()
    origin: str = _text()
    """``declared`` by the manifest or ``detected`` in the metrics."""


class Finding(SQLModel, table=True):
    """Something the portal found out itself about a run."""

    __tablename__ = "finding"
    __table_args__ = (UniqueConstraint("release_id", "key"),)

    id: int | None = _key()
    release_id: int = _owner("release")
    key: str = _text()
    """Stable id within the run: code and a digest of what it is about."""
    code: str = _text()
    severity: str = _text()
    """``error``, ``warning`` or ``info``."""
    message: str = _text()
    step: int | None = _big(nullable=True)
    evidence: dict[str, Any] = _json(dict)
    state: str = _text()
    """``open``, ``explained`` or ``fixed``."""
    found_at: datetime = _now()


class Evaluation(SQLModel, table=True):
    """One metric of one task at one checkpoint step."""

    __tablename__ = "evaluation"
    __table_args__ = (Index("ix_evaluation_release_id_step", "release_id", "step"),)

    id: int | None = _key()
    release_id: int = _owner("release")
    step: int | None = _big(nullable=True)
    suite: str = _text()
    """Harness setting, e.g. ``zero-shot``."""
    task: str = _text()
    metric: str = _text()
    value: float | None = None
    special: str | None = _text(nullable=True)
    """``nan``, ``+inf`` or ``-inf`` when ``value`` is null."""
    stderr: float | None = None
    shots: int | None = _big(nullable=True)
    version: str | None = _text(nullable=True)
    by: str = _text()
    source: str = _text()
    """File it was read from."""
