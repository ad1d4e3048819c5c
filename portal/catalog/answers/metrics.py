"""Metric series and their numbers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SeriesView:
    """What one metric series measures."""

    name: str
    group: str
    unit: str
    reduction: str
    description: str
    column: str
    source: str
    x_kind: str
    points: int
    first_step: int | None
    last_step: int | None
    nan: int
    inf: int


@dataclass(frozen=True)
class MetricAtStep:
    """The value of a series at exactly this step; ``special`` is nan, +inf or -inf."""

    name: str
    group: str
    unit: str
    value: float | None
    special: str | None


@dataclass(frozen=True)
class SeriesBuckets:
    """One series between two steps: parallel columns, one entry per bucket (or point), by ascending step.

    ``kind: "buckets"`` fills the columns from ``first_step`` to ``negative_inf``; ``min``, ``max``, ``mean`` and
    ``last`` are over the finite values and null where a bucket has none, ``min_step`` and ``max_step`` are the
    exact steps of the extremes. ``kind: "raw"`` fills ``step``, ``value`` and ``special``: every point.
    With another ``x`` than ``step``, columns ending in ``_x`` (or ``x``) hold it.
    """

    name: str
    group: str
    unit: str
    reduction: str
    kind: str
    points: int
    """Points between the two steps, over all buckets."""
    first_step: list[int] = field(default_factory=list)
    last_step: list[int] = field(default_factory=list)
    min: list[float | None] = field(default_factory=list)
    max: list[float | None] = field(default_factory=list)
    mean: list[float | None] = field(default_factory=list)
    last: list[float | None] = field(default_factory=list)
    min_step: list[int | None] = field(default_factory=list)
    max_step: list[int | None] = field(default_factory=list)
    finite: list[int] = field(default_factory=list)
    nan: list[int] = field(default_factory=list)
    inf: list[int] = field(default_factory=list)
    positive_inf: list[int] = field(default_factory=list)
    negative_inf: list[int] = field(default_factory=list)
    nonfinite: list[list[int | str]] = field(default_factory=list)
    """``[step, "nan" | "+inf" | "-inf"]``, the first of ``nonfinite_total``."""
    nonfinite_listed: int = 0
    nonfinite_total: int = 0
    step: list[int] = field(default_factory=list)
    value: list[float | None] = field(default_factory=list)
    special: list[list[int | str]] = field(default_factory=list)


@dataclass(frozen=True)
class MetricAnswer:
    """Several series over one range of steps."""

    run: str
    version: int
    x: str
    first: int
    last: int
    """Steps asked for, whatever ``x`` is."""
    buckets: int
    series: list[SeriesBuckets]
