"""What was logged, measured and found along a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, DateTime, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from portal.models.columns import belongs_to, big_integer, json_column, moment, primary_key, text_column


class Config(SQLModel, table=True):
    """Hyper-parameters and code in force over an interval of steps."""

    __tablename__ = "config"
    __table_args__ = (Index("ix_config_release_id_first_step", "release_id", "first_step"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    first_step: int = big_integer()
    last_step: int | None = big_integer(nullable=True)
    file_id: int | None = belongs_to("file", nullable=True)
    values: dict[str, Any] = json_column(dict)
    code: dict[str, Any] = json_column(dict)
    note: str = text_column()


class MetricSeries(SQLModel, table=True):
    """What one series measures and in which columnar group its numbers lie."""

    __tablename__ = "metric_series"
    __table_args__ = (UniqueConstraint("release_id", "name"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    name: str = text_column()
    group: str = text_column()
    unit: str = text_column()
    reduction: str = text_column()
    description: str = text_column()
    column: str = text_column()
    source: str = text_column()
    """File it was read from."""
    x_kind: str = text_column()
    location: str = text_column()
    """Folder name of its packed numbers in the metric store (see portal/metrics/series.py)."""
    points: int = big_integer()
    first_step: int | None = big_integer(nullable=True)
    last_step: int | None = big_integer(nullable=True)
    nan_count: int = big_integer()
    inf_count: int = big_integer()


class Event(SQLModel, table=True):
    """Something that happened at a step."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_release_id_step", "release_id", "step"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    step: int | None = big_integer(nullable=True)
    last_step: int | None = big_integer(nullable=True)
    kind: str = text_column()
    chunk: str | None = text_column(nullable=True)
    note: str = text_column()
    evidence: str = text_column()
    origin: str = text_column()
    """``declared`` by the manifest or ``detected`` in the metrics."""


class Finding(SQLModel, table=True):
    """Something the portal found out itself about a run."""

    __tablename__ = "finding"
    __table_args__ = (UniqueConstraint("release_id", "key"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    key: str = text_column()
    """Stable id within the run: code and a digest of what it is about."""
    code: str = text_column()
    severity: str = text_column()
    """``error``, ``warning`` or ``info``."""
    message: str = text_column()
    step: int | None = big_integer(nullable=True)
    evidence: dict[str, Any] = json_column(dict)
    state: str = text_column()
    """``open``, ``explained`` or ``fixed``."""
    found_at: datetime = moment()
    fixed_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    """When it was last not found any more; a finding that came back since keeps it."""


class FindingReview(SQLModel, table=True):
    """What a person said of a finding: rows are added, never changed."""

    __tablename__ = "finding_review"
    __table_args__ = (Index("ix_finding_review_run_id_key", "run_id", "key"),)

    id: int | None = primary_key()
    run_id: int = belongs_to("run")
    """Of the run, not of one release: what was said holds for the same finding of the next version."""
    key: str = text_column()
    """As of `Finding.key`."""
    state: str = text_column()
    """``explained``, or ``open`` again."""
    note: str = text_column()
    message: str = text_column()
    """What the finding said then."""
    by: str = text_column()
    """Name of the token or person."""
    at: datetime = moment()


class Evaluation(SQLModel, table=True):
    """One metric of one task at one checkpoint step."""

    __tablename__ = "evaluation"
    __table_args__ = (Index("ix_evaluation_release_id_step", "release_id", "step"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    step: int | None = big_integer(nullable=True)
    suite: str = text_column()
    """Harness setting, e.g. ``zero-shot``."""
    task: str = text_column()
    metric: str = text_column()
    value: float | None = None
    special: str | None = text_column(nullable=True)
    """``nan``, ``+inf`` or ``-inf`` when ``value`` is null."""
    stderr: float | None = None
    shots: int | None = big_integer(nullable=True)
    version: str | None = text_column(nullable=True)
    by: str = text_column()
    source: str = text_column()
    """File it was read from."""
