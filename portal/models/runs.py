"""Runs, their releases and stages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from portal.models.columns import belongs_to, big_integer, json_column, moment, primary_key, text_column


class Run(SQLModel, table=True):
    """One training run's name and its current version."""

    __tablename__ = "run"
    __table_args__ = (UniqueConstraint("org", "name"), Index("ix_run_private_to", "private_to"))

    id: int | None = primary_key()
    org: str = text_column()
    name: str = text_column()
    version: int = big_integer()
    """Version of the release that is shown; 0 before the first publish, and when all were withdrawn."""
    revision: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    """Grows when findings or file states change without a new version; kept answers are dropped then."""
    private_to: str | None = text_column(nullable=True)
    """The organisation whose tokens alone may read it; None: anybody."""
    created_at: datetime = moment()


class Release(SQLModel, table=True):
    """One published version of a run: its manifest and the numbers every page shows."""

    __tablename__ = "release"
    __table_args__ = (UniqueConstraint("run_id", "version"),)

    id: int | None = primary_key()
    run_id: int = belongs_to("run")
    version: int = big_integer()
    manifest: str = text_column()
    """Canonical JSON of the manifest as published."""
    fingerprint: str = text_column()
    """sha256 over manifest and file digests; an equal one means nothing changed."""
    root: str = text_column()
    """URI below which relative paths lie."""
    published_at: datetime = moment()
    published_by: str | None = text_column(nullable=True)
    """The name of the token it came with; None: published on the portal's own machine."""
    reason: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    """Why it followed another version; empty where nobody said."""
    changes: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}"))
    """Files ``added``, ``changed`` and ``removed`` against the version before; empty for the first."""
    kind: str = text_column()
    title: str = text_column()
    description: str = text_column()
    synthetic: bool = False
    parent_run: str | None = text_column(nullable=True)
    parent_step: int | None = big_integer(nullable=True)
    license: dict[str, Any] = json_column(dict)
    links: dict[str, Any] = json_column(dict)
    model: dict[str, Any] = json_column(dict)
    sequence_length: int | None = big_integer(nullable=True)
    row_length: int | None = big_integer(nullable=True)
    rows_per_step: int | None = big_integer(nullable=True)
    tokens_per_step: int | None = big_integer(nullable=True)
    first_step: int = big_integer()
    last_step: int = big_integer()
    cadence: int | None = big_integer(nullable=True)
    tokens: int | None = big_integer(nullable=True)
    """Tokens read by the end of the last step."""
    checkpoint_count: int = big_integer()
    chunk_count: int = big_integer()
    file_count: int = big_integer()
    total_bytes: int = big_integer()
    point_count: int = big_integer()
    """Metric points over all series."""


class Stage(SQLModel, table=True):
    """A named interval of steps with its own numbering and batch shape."""

    __tablename__ = "stage"
    __table_args__ = (Index("ix_stage_release_id_first_step", "release_id", "first_step"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    name: str = text_column()
    first_step: int = big_integer()
    last_step: int = big_integer()
    first_local_step: int = big_integer()
    sequence_length: int | None = big_integer(nullable=True)
    row_length: int | None = big_integer(nullable=True)
    rows_per_step: int | None = big_integer(nullable=True)
    tokens_per_step: int | None = big_integer(nullable=True)
    note: str = text_column()
