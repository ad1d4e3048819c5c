"""From columns of a file to series by step: which column is the step, which are series, what to note."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from portal.errors import DataFault
from portal.manifest.schema import MetricFile, SeriesDefinition
from portal.metrics.ingest.table import MAX_STEP, SHOWN, Column, Ingested, IngestNote, StepsOf, Table
from portal.metrics.levels import Floats, Ints
from portal.metrics.series import SeriesData

LISTED = 20
"""Columns named in a message; the message states how many there are."""
ENOUGH_POINTS = 10
"""Fewer distances do not show what is usual."""
USUAL_SHARE = 0.9
"""A distance is the usual one when this share of neighbours keep it."""
WIDE = 3
"""Times the usual distance from which on one is a hole."""


def assemble(table: Table, spec: MetricFile, source: str, steps_of: StepsOf | None) -> Ingested:
    """Series of ``table`` as ``spec`` defines them; every numeric column when it defines none.

    Points are sorted by step, stably. Raises DataFault when the x column or a defined column is
    missing, no row has a usable step, or x counts tokens or samples and ``steps_of`` is not given.
    """
    notes: list[IngestNote] = []
    steps = _row_steps(table, spec, steps_of, notes)
    definitions = _definitions(table, spec, notes)
    axis = _Axis.of(steps)
    series = []
    for name, definition in definitions.items():
        column = table.columns[definition.column]
        at, values = axis.place(column)
        series.append(make_series(name, definition, source, spec.x_kind, at, values))
    if axis.unsorted is not None:
        notes.append(_unsorted(table, axis.unsorted))
    notes += _cell_notes(table, {name: definition.column for name, definition in definitions.items()})
    notes += duplicate_notes(table.name, series)
    return Ingested(series, notes)


def make_series(
    name: str, definition: SeriesDefinition, source: str, x_kind: str, steps: Ints, values: Floats
) -> SeriesData:
    """A series with its definition's words."""
    d = definition
    return SeriesData(name, d.group, d.unit, d.reduction, d.description, d.column, source, x_kind, steps, values)


def duplicate_notes(file: str, series: Iterable[SeriesData]) -> list[IngestNote]:
    """One note when steps were logged more than once: all points are kept, and that is said."""
    repeats: dict[str, int] = {}
    examples: list[int] = []
    seen: dict[int, tuple[int, list[int]]] = {}
    for one in series:
        if id(one.steps) not in seen:
            again = one.steps[1:][one.steps[1:] == one.steps[:-1]]
            seen[id(one.steps)] = (len(again), sorted(set(again[:1000].tolist()))[:SHOWN])
        count, first = seen[id(one.steps)]
        if count:
            repeats[one.name] = count
            examples = examples or first
    if not repeats:
        return []
    message = (
        f"{file}: steps are logged more than once in {len(repeats)} series (first at step {examples[0]}); "
        "all points are kept, and the value at a step is the one logged last."
    )
    evidence = {
        "file": file,
        "series": dict(list(repeats.items())[:LISTED]),
        "series_total": len(repeats),
        "steps": examples,
    }
    return [IngestNote("duplicate-steps", message, evidence, examples[0])]


def gap_notes(series: Iterable[SeriesData]) -> list[IngestNote]:
    """One note for each hole in logs that are otherwise kept at one distance; series of equal steps share it."""
    holes: dict[tuple[int, int, int], list[str]] = {}
    seen: dict[int, list[tuple[int, int, int]]] = {}
    for one in series:
        if id(one.steps) not in seen:
            seen[id(one.steps)] = _holes(one.steps)
        for hole in seen[id(one.steps)]:
            holes.setdefault(hole, []).append(one.name)
    notes = []
    for (before, after, usual), names in sorted(holes.items()):
        message = (
            f"Nothing was logged between steps {before:,} and {after:,} in {_listed(names)}; "
            f"elsewhere points are {usual:,} steps apart."
        )
        evidence = {"series": names[:LISTED], "series_total": len(names), "first_step": before, "last_step": after}
        notes.append(IngestNote("series-gap", message, evidence, before))
    return notes


def _holes(steps: Ints) -> list[tuple[int, int, int]]:
    """(step before, step after, usual distance) of the largest holes; none where no distance is usual."""
    distances = np.diff(steps)
    if len(distances) < ENOUGH_POINTS:
        return []
    usual = int(np.median(distances))
    if usual < 1 or np.count_nonzero(distances == usual) < USUAL_SHARE * len(distances):
        return []
    wide = np.flatnonzero(distances >= WIDE * usual)
    largest = wide[distances[wide].argsort(kind="stable")[::-1][:LISTED]]
    return [(int(steps[k]), int(steps[k + 1]), usual) for k in sorted(largest.tolist())]


@dataclass
class _Axis:
    """Steps of the rows, in the order in which points are stored."""

    steps: Ints
    """Of every row; below 0 where the row has no usable step."""
    order: Ints | None
    """Rows with a step, sorted by it; None when that is all rows as they stand."""
    unsorted: int | None
    """First row whose step is lower than the one before."""
    sorted_steps: Ints
    _shared: dict[bytes, tuple[Ints, Ints | None]] = field(default_factory=dict)

    @staticmethod
    def of(steps: Ints) -> _Axis:
        rows = np.flatnonzero(steps >= 0)
        kept = steps if len(rows) == len(steps) else steps[rows]
        falls = np.flatnonzero(kept[1:] < kept[:-1])
        if len(falls):
            order = rows[kept.argsort(kind="stable")]
            return _Axis(steps, order, int(rows[falls[0] + 1]), steps[order])
        return _Axis(steps, None if len(rows) == len(steps) else rows, None, kept)

    def place(self, column: Column) -> tuple[Ints, Floats]:
        """Steps and values of a column's points; columns present in the same rows share one array."""
        if column.rows is None:
            return self.sorted_steps, column.values if self.order is None else column.values[self.order]
        key = column.rows.tobytes()
        if key not in self._shared:
            at = self.steps[column.rows]
            usable = np.flatnonzero(at >= 0)
            pick = usable[at[usable].argsort(kind="stable")]
            plain = len(pick) == len(at) and bool((pick[1:] > pick[:-1]).all())
            self._shared[key] = (at[pick], None if plain else pick)
        at, chosen = self._shared[key]
        return at, column.values if chosen is None else column.values[chosen]


def _row_steps(table: Table, spec: MetricFile, steps_of: StepsOf | None, notes: list[IngestNote]) -> Ints:
    """Step of every row, -1 where it has none that can be used (and a note)."""
    if spec.x not in table.columns:
        likely = [
            name for name in table.columns if name.lower().strip("_") in ("step", "global_step", "iteration", "iter")
        ]
        hint = f"Set x to {likely[0]!r}." if likely else f"Set x to one of its columns: {_listed(table.columns)}."
        raise DataFault(f"{table.name} has no column {spec.x!r}.", hint)
    if not table.rows:
        raise DataFault(f"{table.name} has columns but no row.", "Publish the file that holds the numbers.")
    column = table.columns[spec.x]
    x = np.full(table.rows, np.nan)
    x[slice(None) if column.rows is None else column.rows] = column.values
    whole = np.isfinite(x) & (np.floor(x) == x) & (np.abs(x) <= MAX_STEP)
    steps = np.where(whole, x, -1).astype(np.int64)
    if spec.x_kind == "step":
        steps[whole] += spec.step_offset
    else:
        if steps_of is None:
            raise DataFault(
                f"{table.name} counts {spec.x_kind}, but the manifest does not say how many a step reads.",
                "Give training.tokens_per_step (and rows_per_step) in the manifest.",
            )
        steps[whole] = steps_of(steps[whole])
    usable = whole & (steps >= 0) & (steps <= MAX_STEP)
    steps[~usable] = -1
    _note_unusable(table, spec, column, ~usable, notes)
    return steps


def _note_unusable(
    table: Table, spec: MetricFile, column: Column, unusable: npt.NDArray[np.bool_], notes: list[IngestNote]
) -> None:
    rows = np.flatnonzero(unusable)
    if not len(rows):
        return
    row = int(rows[0])
    where = f"{table.name}, {table.place(row)}, column {spec.x!r}"
    text = dict(column.unreadable).get(row)
    if text is None:
        present = row if column.rows is None else int(column.rows.searchsorted(row))
        has = column.rows is None or (present < len(column.rows) and column.rows[present] == row)
        text = f"{column.values[present]:.15g}" if has else "nothing"
    if len(rows) == table.rows:
        raise DataFault(f"{where}: {text!r} is no step, and no row has one.", "A step is a whole number of 0 or more.")
    message = f"{where}: {text!r} is no step; {len(rows)} of {table.rows} rows have none and are left out."
    evidence = {
        "file": table.name,
        "column": spec.x,
        "rows": len(rows),
        "places": [table.place(int(r)) for r in rows[:SHOWN]],
    }
    notes.append(IngestNote("unusable-steps", message, evidence))


def _definitions(table: Table, spec: MetricFile, notes: list[IngestNote]) -> dict[str, SeriesDefinition]:
    if spec.series:
        missing = [d.column for d in spec.series.values() if d.column not in table.columns]
        if missing:
            near = difflib.get_close_matches(missing[0], table.columns, 3, 0.5) or list(table.columns)
            raise DataFault(
                f"{table.name} has no column {_listed(missing)}.", f"Name one of its columns: {_listed(near)}."
            )
        return dict(spec.series)
    others = {name: column for name, column in table.columns.items() if name != spec.x}
    left = [name for name, column in others.items() if not len(column.values)]
    if left:
        notes.append(
            IngestNote(
                "columns-without-numbers",
                f"{table.name}: {len(left)} columns hold no number and are left out: {_listed(left)}.",
                {"file": table.name, "columns": left[:LISTED], "columns_total": len(left)},
            )
        )
    return {name: SeriesDefinition(column=name, group=spec.group) for name in others if name not in left}


def _cell_notes(table: Table, columns: dict[str, str]) -> list[IngestNote]:
    notes = []
    nulls = {name: table.columns[column].nulls for name, column in columns.items() if table.columns[column].nulls}
    for name, column in columns.items():
        cell = table.columns[column]
        if not cell.unreadable_count:
            continue
        row, text = cell.unreadable[0]
        message = (
            f"{table.name}, {table.place(row)}, column {column!r}: {text!r} is no number; "
            f"{cell.unreadable_count} such cells make no point of {name}."
        )
        evidence = {
            "file": table.name,
            "column": column,
            "cells": cell.unreadable_count,
            "first": [{"place": table.place(r), "text": t} for r, t in cell.unreadable],
        }
        notes.append(IngestNote("unreadable-cells", message, evidence))
    if nulls:
        message = (
            f"{table.name}: {sum(nulls.values())} null cells in {len(nulls)} series are read as absent, not as NaN."
        )
        evidence = {"file": table.name, "series": dict(list(nulls.items())[:LISTED]), "series_total": len(nulls)}
        notes.append(IngestNote("null-is-absent", message, evidence))
    return notes


def _unsorted(table: Table, row: int) -> IngestNote:
    place = table.place(row)
    message = f"{table.name}, {place}: the step is lower than on the line before; points were sorted by step, stably."
    return IngestNote("unsorted-steps", message, {"file": table.name, "place": place})


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    text = ", ".join(repr(name) for name in names[:LISTED])
    return text if len(names) <= LISTED else f"{text} and {len(names) - LISTED} more"
