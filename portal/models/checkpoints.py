"""Checkpoints and their labels."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index
from sqlmodel import SQLModel

from portal.models.columns import belongs_to, big_integer, json_column, primary_key, text_column


class Checkpoint(SQLModel, table=True):
    """The state after a step (null for a soup)."""

    __tablename__ = "checkpoint"
    __table_args__ = (Index("ix_checkpoint_release_id_step", "release_id", "step"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    step: int | None = big_integer(nullable=True)
    stage: str | None = text_column(nullable=True)
    local_step: int | None = big_integer(nullable=True)
    tokens: int | None = big_integer(nullable=True)
    tokens_declared: bool = False
    dtype: str | None = text_column(nullable=True)
    labels: list[Any] = json_column(list)
    contains: list[Any] = json_column(list)
    location: str | None = text_column(nullable=True)
    parents: list[Any] = json_column(list)
    missing: bool = False
    file_count: int = big_integer()
    total_bytes: int = big_integer()
    """Of files whose size is known."""
    note: str = text_column()


class CheckpointLabel(SQLModel, table=True):
    """An alias of a checkpoint, as its authors named it."""

    __tablename__ = "checkpoint_label"
    __table_args__ = (Index("ix_checkpoint_label_release_id_label", "release_id", "label"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    checkpoint_id: int = belongs_to("checkpoint")
    label: str = text_column()
