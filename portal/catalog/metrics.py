"""Metric series of a run: what they measure, and their numbers in buckets that hide nothing."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlmodel import Session

from portal.catalog.answers import Page, SeriesView
from portal.catalog.facts import ReleaseFacts, SeriesFact, SeriesGroup
from portal.catalog.paging import slice_page
from portal.catalog.release import load_facts
from portal.errors import BadRequest, PortalError, SeriesNotFound
from portal.manifest.schema import MAX_INT
from portal.metrics.buckets import Buckets
from portal.metrics.series import Series, open_series
from portal.metrics.written import WrittenBuckets, written_buckets
from portal.settings import Settings

Ints = npt.NDArray[np.int64]
X_KINDS = ("step", "tokens", "chunk", "checkpoint")
MAX_BUCKETS = 10_000
MAX_SERIES = 64


@dataclass(frozen=True)
class QueriedSeries:
    """One series of an answer; ``x`` maps column names to the x of their steps."""

    view: SeriesView
    buckets: Buckets
    x: dict[str, Ints] | None


@dataclass(frozen=True)
class MetricQuery:
    """What is asked of several series; ``first`` and ``last`` are steps whatever ``x`` is."""

    series: tuple[str, ...]
    x: str = "step"
    first: int | None = None
    last: int | None = None
    buckets: int = 1000


@dataclass(frozen=True)
class QueriedMetrics:
    """The answer as arrays."""

    run: str
    version: int
    query: MetricQuery
    first: int
    last: int
    series: list[QueriedSeries]


@dataclass(frozen=True)
class WrittenSeries:
    """One series of an answer that is to be sent; its columns are ready where they are those of a stored level."""

    view: SeriesView
    buckets: Buckets | WrittenBuckets
    x: dict[str, Ints] | None


@dataclass(frozen=True)
class WrittenMetrics:
    """The answer as it is to be sent."""

    run: str
    version: int
    release: str
    """Tells this release from every other, also of another database: what the answer follows from besides the query."""
    query: MetricQuery
    first: int
    last: int
    series: list[WrittenSeries]


def metrics_root(settings: Settings) -> Path:
    """Folder of the packed numbers."""
    return settings.data / "store" / "metrics"


def list_series(session: Session, run: str, limit: int = 100, cursor: str | None = None) -> Page[SeriesView]:
    """What each series measures, in the order of the manifest."""
    facts = load_facts(session, run)
    return slice_page([s.view for s in facts.series], facts.head.version, limit, cursor)


def query_metrics(session: Session, settings: Settings, run: str, query: MetricQuery) -> QueriedMetrics:
    """Several series in at most ``buckets`` buckets each; raw points where there are no more than that."""
    return metrics_of(load_facts(session, run), settings, query)


def find_series(session: Session, settings: Settings, run: str, name: str) -> tuple[SeriesView, Series]:
    """One series whole, memory-mapped. SeriesNotFound names close matches."""
    found = _find(load_facts(session, run), name)
    return found.view, open_series(metrics_root(settings), found.location)


def series_groups(facts: ReleaseFacts, settings: Settings) -> list[SeriesGroup]:
    """All series of a release, opened once; those that share their steps together.

    Without those whose numbers are damaged or gone: whoever asks for one by name is told.
    """
    here = str(settings.data)
    found = facts.opened.get(here)
    if found is None:
        root = metrics_root(settings)
        groups: dict[int, SeriesGroup] = {}
        for series in facts.series:
            try:
                opened = open_series(root, series.location)
            except PortalError:
                continue
            group = groups.setdefault(id(opened.steps), SeriesGroup(opened.steps, []))
            group.members.append((series.view, opened))
        found = facts.opened.setdefault(here, list(groups.values()))
    return found


def metrics_of(facts: ReleaseFacts, settings: Settings, query: MetricQuery) -> QueriedMetrics:
    """The answer from facts alone."""
    found = []
    for view, numbers in _asked(facts, settings, query):
        buckets = numbers.query(query.first, query.last, query.buckets)
        found.append(QueriedSeries(view, buckets, _x_columns(facts, query.x, buckets)))
    return QueriedMetrics(facts.run, facts.head.version, query, *_range(facts, query), found)


def written_metrics(facts: ReleaseFacts, settings: Settings, query: MetricQuery, packed: bool) -> WrittenMetrics:
    """The same answer to be sent, ``packed`` or not: most of its columns were written for an earlier one."""
    found = []
    for view, numbers in _asked(facts, settings, query):
        buckets: Buckets | WrittenBuckets | None = None
        if query.x == "step":
            buckets = written_buckets(numbers, numbers.window(query.first, query.last, query.buckets), packed)
        if buckets is None:
            plain = buckets = numbers.query(query.first, query.last, query.buckets)
            found.append(WrittenSeries(view, buckets, _x_columns(facts, query.x, plain)))
        else:
            found.append(WrittenSeries(view, buckets, None))
    return WrittenMetrics(facts.run, facts.head.version, facts.key, query, *_range(facts, query), found)


def _asked(facts: ReleaseFacts, settings: Settings, query: MetricQuery) -> list[tuple[SeriesView, Series]]:
    """The series asked for, opened."""
    _check(query)
    key = ("series by name", str(settings.data))
    opened = facts.kept.get(key)
    if opened is None:
        opened = {view.name: series for group in series_groups(facts, settings) for view, series in group.members}
        facts.kept[key] = opened
    found = []
    for name in query.series:
        series = _find(facts, name)
        found.append((series.view, opened.get(name) or open_series(metrics_root(settings), series.location)))
    return found


def _range(facts: ReleaseFacts, query: MetricQuery) -> tuple[int, int]:
    return 0 if query.first is None else query.first, facts.last_step if query.last is None else query.last


def _check(query: MetricQuery) -> None:
    if not query.series:
        raise BadRequest(
            "No series is named.", "Add `series=` with one or more names, separated by commas.", parameter="series"
        )
    if len(query.series) > MAX_SERIES:
        raise BadRequest(
            f"{len(query.series)} series are named.", f"Ask for at most {MAX_SERIES} at once.", parameter="series"
        )
    if query.x not in X_KINDS:
        raise BadRequest(f"x is {query.x[:50]!r}.", f"Use one of {', '.join(X_KINDS)}.", parameter="x")
    if not 1 <= query.buckets <= MAX_BUCKETS:
        raise BadRequest(
            f"buckets is {query.buckets}, outside 1 to {MAX_BUCKETS}.", "Ask for 1000.", parameter="buckets"
        )
    if any(bound is not None and abs(bound) > MAX_INT for bound in (query.first, query.last)):
        raise BadRequest("first or last lies beyond 2**53 - 1.", "Give steps of the run.", parameter="first")
    if query.first is not None and query.last is not None and query.first > query.last:
        raise BadRequest(f"first ({query.first}) lies after last ({query.last}).", "Swap them.", parameter="first")


def _find(facts: ReleaseFacts, name: str) -> SeriesFact:
    found = facts.series_by_name.get(name)
    if found is None:
        nearest = difflib.get_close_matches(name[:200], list(facts.series_by_name), 5, 0.4)
        remedy = f"Did you mean {' or '.join(nearest)}?" if nearest else "See the run's list of metrics."
        raise SeriesNotFound(f"{facts.run} has no metric series {name[:200]!r}.", remedy, nearest=nearest)
    return found


def _x_columns(facts: ReleaseFacts, x: str, buckets: Buckets) -> dict[str, Ints] | None:
    if x == "step":
        return None
    convert = {"tokens": _tokens, "chunk": _chunks, "checkpoint": _checkpoints}[x]
    return {
        name: convert(facts, getattr(buckets, name)) for name in ("first_step", "last_step", "min_step", "max_step")
    }


def _tokens(facts: ReleaseFacts, steps: Ints) -> Ints:
    """Tokens read by the end of each step: a straight line inside each stage."""
    total = np.zeros(len(steps), dtype=np.int64)
    for stage in facts.stages:
        if stage.tokens_per_step is None:
            raise BadRequest(
                f"Tokens per step are not recorded for stage {stage.name} of {facts.run}.", "Use x=step.", parameter="x"
            )
        read = np.clip(steps, stage.first_step - 1, stage.last_step) - (stage.first_step - 1)
        total += read * stage.tokens_per_step
    return total


def _chunks(facts: ReleaseFacts, steps: Ints) -> Ints:
    """How many chunks had been begun by each step, minus one: the number of the chunk in the order of reading."""
    starts = np.array(sorted({s.first_step for s in facts.spans.all}), dtype=np.int64)
    if not len(starts):
        raise BadRequest(f"The chunks of {facts.run} are not tied to steps.", "Use x=step.", parameter="x")
    return np.searchsorted(starts, steps, "right").astype(np.int64) - 1


def _checkpoints(facts: ReleaseFacts, steps: Ints) -> Ints:
    """Number of the latest released checkpoint at or before each step, from 0; -1 before the first."""
    return np.searchsorted(np.array(facts.released_steps, dtype=np.int64), steps, "right").astype(np.int64) - 1
