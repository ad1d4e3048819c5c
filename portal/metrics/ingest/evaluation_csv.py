"""Evaluation results as CSV: a row per task (``task`` column) or a column per task and metric."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from portal.errors import DataFault
from portal.manifest.schema import EvaluationFile
from portal.metrics.ingest.evaluations import (
    EvaluationRow,
    IngestedEvaluations,
    find_repeats,
    split_special,
    step_in_name,
)
from portal.metrics.ingest.table import MAX_STEP, SHOWN, IngestNote, parse_number

STEP_COLUMNS = ("step", "_step", "Step", "checkpoint", "iteration", "global_step")
SHOT_COLUMNS = ("fewshot", "num_fewshot", "shots")
_KNOWN = {*STEP_COLUMNS, *SHOT_COLUMNS, "model", "task", "metric", "version", "suite"}
_METRICS = ("soft_log", "len_norm", "acc_norm", "ce_loss", "pmi_dc", "acc", "bpb", "soft", "f1")
"""Suffixes of OLMo's ``eval/downstream…/<task>_<metric>`` columns, longest first."""

Cells = dict[str, str]


def read_evaluation_csv(path: Path, spec: EvaluationFile, source: str) -> IngestedEvaluations:
    """Read a CSV of results.

    A row per task has ``task`` and either ``metric, value`` or one column per metric (``acc``,
    ``acc_stderr``); otherwise each ``eval/…`` column (or each column, if none is named so) is a task
    and metric at the row's step. Empty cells are absent, ``NaN`` is a value. Raises DataFault naming
    the line of a wrong number of cells or an unusable step.
    """
    notes: list[IngestNote] = []
    rows: list[EvaluationRow] = []
    bad: list[str] = []
    lines = list(_lines(path))
    names = list(lines[0][1])
    column = next((name for name in STEP_COLUMNS if name in names), None)
    fallback = step_in_name(path.name, spec.step_pattern)
    fallback = spec.step if fallback is None else fallback
    if column is None and fallback is None:
        raise DataFault(
            f"{path.name} has no column of steps ({', '.join(STEP_COLUMNS)}).",
            "Name it `step`, or set step in the manifest.",
        )
    wide = [] if "task" in names else _wide_columns(path, names, notes)
    for number, cells in lines:
        step = fallback if column is None else _step(path, number, column, cells[column])
        found = _long(cells) if not wide else ((name, *_split(name), cells[name], "") for name in wide)
        for name, task, metric, text, error in found:
            if not text.strip():
                continue
            value = parse_number(text)
            if value is None:
                bad.append(f"line {number}, column {name!r}: {text!r}")
                continue
            rows.append(_row(cells, spec, source, (step, task, metric), (value, parse_number(error))))
    if bad:
        message = f"{path.name}, {bad[0]} is no number; {len(bad)} such cells make no result."
        notes.append(
            IngestNote("unreadable-cells", message, {"file": path.name, "cells": len(bad), "first": bad[:SHOWN]})
        )
    if not rows:
        raise DataFault(f"{path.name} holds no result.", "Give a column `task`, or columns named after tasks.")
    return IngestedEvaluations(rows, notes + find_repeats(rows))


def _lines(path: Path) -> Iterator[tuple[int, Cells]]:
    with path.open(newline="", encoding="utf-8-sig", errors="strict") as file:
        try:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if not header:
                raise DataFault(f"{path.name} has no header line.", "Begin it with the names of its columns.")
            empty = True
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise DataFault(
                        f"{path.name}, line {reader.line_num}: {len(cells)} cells, but {len(header)} columns.",
                        "Correct the line.",
                    )
                empty = False
                yield reader.line_num, dict(zip(header, cells, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataFault(f"{path.name} cannot be read as CSV: {error}.", "Write the file again as UTF-8.") from None
        if empty:
            raise DataFault(f"{path.name} has a header but no line.", "Publish the file that holds the results.")


def _wide_columns(path: Path, names: list[str], notes: list[IngestNote]) -> list[str]:
    others = [name for name in names if name not in _KNOWN]
    evaluations = [name for name in others if name.startswith("eval/")]
    if not evaluations:
        return others
    left = [name for name in others if name not in evaluations]
    if left:
        message = f"{path.name}: {len(left)} columns are no evaluations and are left out: {', '.join(left[:SHOWN])}."
        notes.append(IngestNote("columns-left-out", message, {"file": path.name, "columns": left}))
    return evaluations


def _split(name: str) -> tuple[str, str]:
    """Task and metric of a wide column: ``eval/<set>/<metric>`` or ``eval/downstream…/<task>_<metric>``."""
    parts = name.split("/")
    if len(parts) == 3 and parts[0] == "eval":
        if not parts[1].startswith("downstream"):
            return parts[1], parts[2]
        metric = next((m for m in _METRICS if parts[2].endswith(f"_{m}")), None)
        if metric:
            return parts[2][: -len(metric) - 1], metric
    return name.removeprefix("eval/"), "value"


def _long(cells: Cells) -> Iterator[tuple[str, str, str, str, str]]:
    task = cells["task"]
    if "metric" in cells and "value" in cells:
        yield "value", task, cells["metric"], cells["value"], cells.get("stderr", "")
        return
    for name, text in cells.items():
        if name not in _KNOWN and name and not name.endswith("_stderr"):
            yield name, task, name, text, cells.get(f"{name}_stderr", "")


def _step(path: Path, line: int, column: str, text: str) -> int:
    number = parse_number(text)
    if number is None or not math.isfinite(number) or number != int(number) or not 0 <= number <= MAX_STEP:
        raise DataFault(
            f"{path.name}, line {line}, column {column!r}: {text!r} is no step.",
            "A step is a whole number of 0 or more.",
        )
    return int(number)


def _row(
    cells: Cells,
    spec: EvaluationFile,
    source: str,
    what: tuple[int | None, str, str],
    numbers: tuple[float, float | None],
) -> EvaluationRow:
    value, special = split_special(numbers[0])
    error = numbers[1] if numbers[1] is not None and math.isfinite(numbers[1]) else None
    shots = next((parse_number(cells[name]) for name in SHOT_COLUMNS if name in cells), None)
    count = int(shots) if shots is not None and math.isfinite(shots) else None
    suite = spec.suite or cells.get("suite", "") or ("" if count is None else f"{count}-shot")
    step, task, metric = what
    return EvaluationRow(
        step, suite, task, metric, value, special, error, count, cells.get("version") or None, spec.by, source
    )
