"""Row plans: every row of every step of a job, written out before anything is trained.

A plan is one parquet file (step int64, position int32, chunk, row int64, source), the same bytes for the same request:
what a job reads is then a file with a sha256, not a promise.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from sqlmodel import Session

from portal.catalog.batches import batch_locator, read_chunk
from portal.catalog.facts import ReleaseFacts
from portal.catalog.openness import CONFIDENCES
from portal.errors import BadRequest, ChunkNotFound, OrderUnknown
from portal.settings import Settings
from portal.tokens.readers import Row

MAX_PLAN_ROWS = 20_000_000
MAX_LABELLED_ROWS = 500_000
"""Rows whose own source labels are read to draw a mix; a chunk that declares one source needs no reading."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """Steps ``first..last`` of a job, each of ``rows_per_step`` rows."""

    first: int
    last: int
    rows_per_step: int

    @property
    def steps(self) -> int:
        """How many."""
        return self.last - self.first + 1

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        return self.steps * self.rows_per_step


@dataclass(frozen=True)
class Plan:
    """Rows in the order in which they are trained on; row ``k`` belongs to step ``first + k // rows_per_step``."""

    interval: Interval
    chunks: list[str]
    chunk: npt.NDArray[np.int32]
    """Index into ``chunks``, of every row."""
    row: Numbers
    """Row of its chunk."""
    sources: list[str] = field(default_factory=list)
    source: npt.NDArray[np.int32] | None = None
    """Index into ``sources``, -1 where nobody says; None: of no row."""
    kind: str = "original"
    confidence: str = "exact"
    """How sure it is that the original run read these rows: ``exact``, ``reconstructed``; ``chosen`` for other data."""
    reason: str = ""
    notes: list[str] = field(default_factory=list)

    def table(self) -> pa.Table:
        """As it is stored."""
        count, per_step = len(self.row), self.interval.rows_per_step
        place = np.arange(count, dtype=np.int64)
        chunk = pa.DictionaryArray.from_arrays(pa.array(self.chunk), pa.array(self.chunks, pa.string()))
        return pa.table(
            {
                "step": pa.array(self.interval.first + place // per_step),
                "position": pa.array((place % per_step).astype(np.int32)),
                "chunk": chunk,
                "row": pa.array(self.row),
                "source": self._source_column(count),
            }
        )

    def _source_column(self, count: int) -> pa.Array:
        if self.source is None:
            return pa.nulls(count, pa.string())
        codes = pa.array(self.source, mask=self.source < 0)
        return pa.DictionaryArray.from_arrays(codes, pa.array(self.sources, pa.string())).dictionary_decode()

    def write(self) -> bytes:
        """The bytes of its file."""
        stream = io.BytesIO()
        pq.write_table(self.table(), stream, compression="zstd", compression_level=3, write_statistics=False)
        return stream.getvalue()

    def used_chunks(self) -> list[str]:
        """Chunks with at least one row in it."""
        return [self.chunks[k] for k in np.unique(self.chunk)]

    def rows_by_chunk(self) -> dict[str, int]:
        """How many rows of each chunk."""
        counts = np.bincount(self.chunk, minlength=len(self.chunks))
        return {name: int(n) for name, n in zip(self.chunks, counts, strict=True) if n}

    def rows_by_source(self) -> dict[str, int]:
        """How many rows of each source, where rows have one."""
        if self.source is None:
            return {}
        counts = np.bincount(self.source[self.source >= 0], minlength=len(self.sources))
        return {name: int(n) for name, n in zip(self.sources, counts, strict=True) if n}


def plan_original(session: Session, settings: Settings, facts: ReleaseFacts, interval: Interval) -> Plan:
    """The rows that the run itself read in these steps, as far as its data order names them.

    OrderUnknown with the reason where it does not, or where the data ends before the steps do.
    """
    locate = batch_locator(session, settings, facts)
    names: dict[str, int] = {}
    chunk, row = np.empty(interval.rows, np.int32), np.empty(interval.rows, np.int64)
    place, views = 0, {}
    for step in range(interval.first, interval.last + 1):
        view, per_step, refs = locate(step)
        views[view.reason] = view
        if len(refs) != interval.rows_per_step or per_step != interval.rows_per_step:
            raise OrderUnknown(
                f"Step {step} read {len(refs)} rows, not {interval.rows_per_step} like the first step of this job.",
                f"End the job at step {step - 1}." if step > interval.first else "Begin where the batch is whole.",
                step=step,
            )
        for ref in refs:
            chunk[place] = names.setdefault(ref.chunk, len(names))
            row[place] = ref.row
            place += 1
    sure = max((v.confidence for v in views.values()), key=CONFIDENCES.index)
    sources, source = _declared_sources(facts, list(names), chunk)
    return Plan(interval, list(names), chunk, row, sources, source, "original", sure, " ".join(views))


def plan_chunks(
    facts: ReleaseFacts, interval: Interval, chunks: Sequence[str], seed: int, shuffle: bool, repeat: bool
) -> Plan:
    """Rows of these chunks, in a shuffle drawn from ``seed`` or as they lie; over and over where ``repeat`` allows it."""
    check_chunks(facts, chunks)
    lengths = [_rows_of(facts, name) for name in chunks]
    available = sum(lengths)
    _check_enough(interval, available, repeat, "rows of these chunks")
    all_chunks = np.repeat(np.arange(len(chunks), dtype=np.int32), lengths)
    all_rows = np.concatenate([np.arange(n, dtype=np.int64) for n in lengths]) if lengths else np.empty(0, np.int64)
    rng = np.random.Generator(np.random.PCG64(seed))
    taken = _passes(rng, available, interval.rows, shuffle)
    chunk, row = all_chunks[taken], all_rows[taken]
    sources, source = _declared_sources(facts, chunks, chunk)
    passes = interval.rows / max(available, 1)
    notes = [f"{interval.rows:,} of {available:,} rows" + (f": {passes:.2f} passes." if passes > 1 else ".")]
    told = "in a shuffle drawn from its seed" if shuffle else "as they lie in their files"
    return Plan(interval, list(chunks), chunk, row, sources, source, "chunks", "chosen", f"Chosen rows, {told}.", notes)


def plan_mix(  # noqa: PLR0913 - what the plan depends on
    session: Session,
    settings: Settings,
    facts: ReleaseFacts,
    interval: Interval,
    chunks: Sequence[str],
    weights: Mapping[str, float],
    seed: int,
) -> Plan:
    """Rows of these chunks with their sources re-weighted: a source of weight 2 comes twice as often as it lies there.

    The share of each source is met exactly, up to one row; within a source rows come in a shuffle, none twice before
    all came once. BadRequest for sources that the chunks have not, or weights that leave nothing.
    """
    check_chunks(facts, chunks)
    names, chunk, row, source = _label_rows(session, settings, facts, chunks)
    if unknown := sorted(set(weights) - set(names)):
        raise BadRequest(
            f"No row of these chunks comes from {', '.join(unknown)[:200]}.",
            f"Their sources are {', '.join(names)[:500]}.",
            parameter="data.weights",
        )
    counts = np.bincount(source[source >= 0], minlength=len(names))
    wanted = np.array([counts[k] * float(weights.get(name, 1.0)) for k, name in enumerate(names)])
    if not wanted.sum() > 0:
        raise BadRequest(
            "These weights leave no row.", "Give at least one source more than 0.", parameter="data.weights"
        )
    quota = _shares(wanted, interval.rows)
    rng = np.random.Generator(np.random.PCG64(seed))
    parts = [np.flatnonzero(source == k)[_passes(rng, int(counts[k]), int(quota[k]), True)] for k in range(len(names))]
    taken = np.concatenate(parts)[rng.permutation(interval.rows)]
    notes = [
        f"{name}: {quota[k]:,} rows ({quota[k] / interval.rows:.1%}; as it lies there {counts[k] / counts.sum():.1%})"
        + (f", read {quota[k] / counts[k]:.2f} times over" if quota[k] > counts[k] else "")
        for k, name in enumerate(names)
        if counts[k]
    ]
    if (unlabelled := int((source < 0).sum())) > 0:
        notes.append(f"{unlabelled:,} rows whose source nobody says are left out.")
    reason = "Chosen rows: the sources of these chunks, re-weighted."
    return Plan(interval, list(chunks), chunk[taken], row[taken], names, source[taken], "mix", "chosen", reason, notes)


def check_chunks(facts: ReleaseFacts, chunks: Sequence[str]) -> None:
    """ChunkNotFound for a name the run does not have, BadRequest for none or one twice."""
    if not chunks:
        raise BadRequest("No chunk is named.", "Name at least one.", parameter="data.chunks")
    for name in chunks:
        if name not in facts.chunks:
            raise ChunkNotFound(
                f"{facts.run} has no chunk {name[:200]!r}.", "See its list of chunks.", chunk=name[:200]
            )
    if len(set(chunks)) != len(chunks):
        raise BadRequest(
            "A chunk is named twice.", "Name each once; `repeat` reads them over.", parameter="data.chunks"
        )


def _rows_of(facts: ReleaseFacts, name: str) -> int:
    rows = facts.chunk_rows.get(name)
    if rows is None:
        raise OrderUnknown(
            f"How many rows chunk {name} has is not recorded.", "State `rows` in the manifest.", chunk=name
        )
    return rows


def _check_enough(interval: Interval, available: int, repeat: bool, what: str) -> None:
    if available == 0 or (interval.rows > available and not repeat):
        most = available // interval.rows_per_step
        raise BadRequest(
            f"{interval.steps} steps of {interval.rows_per_step} rows need {interval.rows:,} {what}; there are {available:,}.",
            f"Train at most {most} steps, name more chunks, or let rows be read again with `repeat`.",
            parameter="steps",
            most_steps=most,
        )


def _passes(rng: np.random.Generator, available: int, wanted: int, shuffle: bool) -> Numbers:
    """``wanted`` numbers below ``available``: pass after pass over all of them, each in an order of its own."""
    if not wanted:
        return np.empty(0, np.int64)
    times = -(-wanted // available)
    each = [rng.permutation(available) if shuffle else np.arange(available) for _ in range(times)]
    return np.concatenate(each)[:wanted].astype(np.int64)


def _shares(wanted: npt.NDArray[np.float64], total: int) -> Numbers:
    """Whole numbers in these proportions that add up to ``total``: largest remainders first."""
    exact = wanted / wanted.sum() * total
    quota = np.floor(exact).astype(np.int64)
    left = total - int(quota.sum())
    quota[np.argsort(-(exact - quota), kind="stable")[:left]] += 1
    return np.asarray(quota, np.int64)


def _declared_sources(
    facts: ReleaseFacts, chunks: Sequence[str], chunk: npt.NDArray[np.int32]
) -> tuple[list[str], npt.NDArray[np.int32] | None]:
    """Sources of rows whose chunk declares exactly one; None when no chunk does."""
    names: dict[str, int] = {}
    of_chunk = np.full(max(len(chunks), 1), -1, np.int32)
    for k, name in enumerate(chunks):
        sources = facts.chunks[name].row.sources
        if len(sources) == 1:
            of_chunk[k] = names.setdefault(next(iter(sources)), len(names))
    return list(names), of_chunk[chunk] if names else None


def _label_rows(
    session: Session, settings: Settings, facts: ReleaseFacts, chunks: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.int32], Numbers, npt.NDArray[np.int32]]:
    """Every row of these chunks with its source: read from the rows where a chunk mixes several."""
    names: dict[str, int] = {}
    lengths = {name: _rows_of(facts, name) for name in chunks}
    mixed = sum(n for name, n in lengths.items() if len(facts.chunks[name].row.sources) != 1)
    if mixed > MAX_LABELLED_ROWS:
        raise BadRequest(
            f"{mixed:,} rows would have to be read to learn their sources; {MAX_LABELLED_ROWS:,} are the most.",
            "Name fewer chunks, or chunks of one source each.",
            parameter="data.chunks",
        )
    labels = [_labels_of(session, settings, facts, name, lengths[name], names) for name in chunks]
    chunk = np.repeat(np.arange(len(chunks), dtype=np.int32), list(lengths.values()))
    row = np.concatenate([np.arange(n, dtype=np.int64) for n in lengths.values()])
    return list(names), chunk, row, np.concatenate(labels)


def _labels_of(
    session: Session, settings: Settings, facts: ReleaseFacts, name: str, rows: int, names: dict[str, int]
) -> npt.NDArray[np.int32]:
    declared = facts.chunks[name].row.sources
    if len(declared) == 1:
        return np.full(rows, names.setdefault(next(iter(declared)), len(names)), np.int32)
    labels = np.full(rows, -1, np.int32)
    for first in range(0, rows, 5000):
        wanted = range(first, min(first + 5000, rows))
        _, found = read_chunk(session, settings, facts, name, lambda _n, wanted=wanted: list(wanted))  # type: ignore[misc]
        for k, one in zip(wanted, found, strict=True):
            source: Any = one.source if isinstance(one, Row) else None
            if source is not None:
                labels[k] = names.setdefault(str(source), len(names))
    return labels
