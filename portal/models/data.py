"""Chunks, the order in which they were read, and the steps that read them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import SQLModel

from portal.models.columns import belongs_to, big_integer, json_column, primary_key, text_column


class Chunk(SQLModel, table=True):
    """One released piece of training data."""

    __tablename__ = "chunk"
    __table_args__ = (
        UniqueConstraint("release_id", "name"),
        Index("ix_chunk_release_id_position", "release_id", "position"),
    )

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    name: str = text_column()
    position: int = big_integer()
    format: str = text_column()
    dtype: str | None = text_column(nullable=True)
    header: str | None = text_column(nullable=True)
    dialect: str | None = text_column(nullable=True)
    column: str | None = text_column(nullable=True)
    rows: int | None = big_integer(nullable=True)
    row_length: int | None = big_integer(nullable=True)
    tokens: int | None = big_integer(nullable=True)
    sources: dict[str, Any] = json_column(dict)
    skipped: bool = False
    total_bytes: int = big_integer()
    note: str = text_column()


class DataOrder(SQLModel, table=True):
    """The rule by which one interval of steps read its rows."""

    __tablename__ = "data_order"
    __table_args__ = (Index("ix_data_order_release_id_first_step", "release_id", "first_step"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    position: int = big_integer()
    first_step: int = big_integer()
    last_step: int = big_integer()
    kind: str = text_column()
    spec: dict[str, Any] = json_column(dict)
    """The manifest's OrderEntry as JSON."""
    confidence: str = text_column()
    assumption: str = text_column()


class ChunkSpan(SQLModel, table=True):
    """Steps during which a chunk was read; derived from the data order when a run is published."""

    __tablename__ = "chunk_span"
    __table_args__ = (
        Index("ix_chunk_span_release_id_first_step", "release_id", "first_step"),
        Index("ix_chunk_span_chunk_id", "chunk_id"),
    )

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    chunk_id: int = belongs_to("chunk")
    order_id: int = belongs_to("data_order")
    first_step: int = big_integer()
    last_step: int = big_integer()
    repeat: int = big_integer()
    """0 for the first time the chunk is read, 1 for the second, ..."""
