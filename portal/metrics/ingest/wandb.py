"""W&B's chart export: ``Step`` and, per run or group, ``<run> - <metric>`` with ``__MIN`` and ``__MAX``.

Source of the format: exports of the W&B web interface, e.g. EleutherAI/pythia, branch
``hmm-training-maps`` (every value quoted).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from portal.manifest.schema import MetricFile
from portal.metrics.ingest.arrow import read_csv
from portal.metrics.ingest.assemble import assemble
from portal.metrics.ingest.table import Column, Ingested, IngestNote, StepsOf, Table

BOUNDS = {"__MIN": "minimum over the runs of the group", "__MAX": "maximum over the runs of the group"}


def is_wandb_export(header: bytes) -> bool:
    """Whether a first line looks like W&B's export."""
    return header.lstrip(b'"').startswith(b"Step") and b" - " in header and b"__MIN" in header


def read_wandb_csv(path: Path, spec: MetricFile, source: str, steps_of: StepsOf | None) -> Ingested:
    """Read an export; columns are known by their metric's name where only one run has it.

    ``__MIN`` and ``__MAX`` columns that repeat their metric everywhere (a group of one run) are left
    out with a note; others become series of their own. ``x: step`` means the column ``Step``.
    """
    full = read_csv(path)
    table, originals = _with_short_names(full)
    notes: list[IngestNote] = []
    if not spec.series:
        table = _without_idle_bounds(table, notes)
    x = "Step" if spec.x == "step" and "step" not in table.columns else spec.x
    result = assemble(table, spec.model_copy(update={"x": x}), source, steps_of)
    series = [
        replace(
            one,
            column=originals.get(one.column, one.column),
            reduction=one.reduction or BOUNDS.get(one.column[-5:], ""),
        )
        for one in result.series
    ]
    return Ingested(series, notes + result.notes)


def _with_short_names(table: Table) -> tuple[Table, dict[str, str]]:
    """Columns by the metric's name where it is unique; beside it, the name each has in the file."""
    short = {name: name.rpartition(" - ")[2] for name in table.columns}
    uses = Counter(short.values())
    names = {name: short[name] if uses[short[name]] == 1 else name for name in table.columns}
    columns = {names[name]: column for name, column in table.columns.items()}
    # A definition may use the name in the file as well.
    columns |= {name: column for name, column in table.columns.items() if names[name] != name}
    return replace(table, columns=columns), {new: old for old, new in names.items()}


def _without_idle_bounds(table: Table, notes: list[IngestNote]) -> Table:
    names = {id(column): name for name, column in reversed(table.columns.items())}
    columns = {name: table.columns[name] for name in table.columns if name in names.values()}
    idle = [
        name
        for name in columns
        if name.endswith(tuple(BOUNDS)) and (base := columns.get(name[:-5])) and _same(base, columns[name])
    ]
    if idle:
        message = f"{table.name}: {len(idle)} columns __MIN/__MAX equal their metric in every row and are left out."
        notes.append(IngestNote("bounds-equal-metric", message, {"file": table.name, "columns": len(idle)}))
    return replace(table, columns={name: column for name, column in columns.items() if name not in idle})


def _same(one: Column, other: Column) -> bool:
    if one.rows is None or other.rows is None:
        same_rows = one.rows is other.rows
    else:
        same_rows = np.array_equal(one.rows, other.rows)
    return same_rows and np.array_equal(one.values, other.values, equal_nan=True)
