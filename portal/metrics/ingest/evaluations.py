"""Results of lm-eval, in the three dialects that open runs publish.

* up to 0.3 (Pythia, OPT, BLOOM): ``results`` is ``{task: {metric: v, metric_stderr: v}}``;
* its promptsource branch (Pythia's bias evaluations): ``results`` is a list with a row per task and prompt;
* from 0.4 on: keys are ``metric,filter`` and ``metric_stderr,filter``, with ``configs`` per task.

The step stands in the file name, in ``model_args``, or nowhere.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from portal.errors import DataFault, TooLarge
from portal.manifest.schema import EvaluationFile
from portal.metrics.ingest.table import MAX_STEP, SHOWN, IngestNote, parse_number

MAX_BYTES = 256 << 20
_STEP = re.compile(r"(?:global_?)?step[_-]?(\d+)(?!\d)", re.IGNORECASE)
_SUITES = {0: "zero-shot", 1: "one-shot", 2: "two-shot", 3: "three-shot", 4: "four-shot", 5: "five-shot"}
_PROMPT_KEYS = {
    "task_name",
    "prompt_name",
    "prompt_id",
    "dataset_path",
    "dataset_name",
    "subset",
    "prompt_jinja",
    "comment",
}


@dataclass(frozen=True)
class EvaluationRow:
    """One metric of one task at one step: the columns of the catalog's Evaluation table."""

    step: int | None
    suite: str
    task: str
    metric: str
    value: float | None
    special: str | None
    stderr: float | None
    shots: int | None
    version: str | None
    by: str
    source: str


@dataclass(frozen=True)
class IngestedEvaluations:
    """The results of one file."""

    rows: list[EvaluationRow]
    notes: list[IngestNote]


def read_lm_eval(path: Path, spec: EvaluationFile, source: str) -> IngestedEvaluations:
    """Read one result file of lm-eval. Raises DataFault when it is none, TooLarge above 256 MiB."""
    document = _load(path)
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, dict | list) or not results:
        raise DataFault(
            f"{path.name} holds no `results` as lm-eval writes them.", "Give the harness's own result file."
        )
    notes: list[IngestNote] = []
    step = _step(path, spec, document, notes)
    rows = []
    for task, metrics in _tasks(path, results):
        shots, version = _shots(document, task), _version(document, task)
        suite = spec.suite or _suite(shots)
        for metric, value, stderr in _metrics(metrics):
            number, special = split_special(value)
            rows.append(
                EvaluationRow(step, suite, task, metric, number, special, stderr, shots, version, spec.by, source)
            )
    if not rows:
        raise DataFault(f"{path.name} names tasks but no number.", "Give the harness's own result file.")
    return IngestedEvaluations(rows, notes)


def split_special(value: float) -> tuple[float | None, str | None]:
    """``(value, None)``, or ``(None, "nan" | "+inf" | "-inf")``."""
    if math.isfinite(value):
        return value, None
    return None, "nan" if math.isnan(value) else "+inf" if value > 0 else "-inf"


def find_repeats(rows: Iterable[EvaluationRow]) -> list[IngestNote]:
    """Notes on steps that were evaluated more than once under the same suite, task and metric.

    Results whose step is unknown are not compared: nothing says that they are of one step.
    """
    seen: dict[tuple[Any, ...], EvaluationRow] = {}
    repeats: dict[tuple[int | None, str], list[tuple[EvaluationRow, EvaluationRow]]] = {}
    for row in (row for row in rows if row.step is not None):
        key = (row.step, row.suite, row.task, row.metric)
        if key in seen:
            repeats.setdefault((row.step, row.suite), []).append((seen[key], row))
        else:
            seen[key] = row
    notes = []
    for (step, suite), pairs in repeats.items():
        different = [b for a, b in pairs if (a.value, a.special) != (b.value, b.special)]
        verdict = f"{len(different)} of {len(pairs)} values differ" if different else "with identical values"
        sources = sorted({row.source for pair in pairs for row in pair})
        named = f"{', '.join(sources[:SHOWN])}{' and more' if len(sources) > SHOWN else ''}"
        message = f"Step {step} was evaluated more than once ({suite or 'no suite named'}), {verdict}: {named}."
        evidence = {"suite": suite, "sources": sources, "values": len(pairs), "different": len(different)}
        notes.append(IngestNote("step-evaluated-twice", message, evidence, step))
    return notes


def step_in_name(name: str, pattern: str | None) -> int | None:
    """The step a file name states: by ``pattern`` (group ``step``), else ``step128``, ``global_step3000``."""
    match = re.search(pattern, name) if pattern else None
    if match:
        return _bounded(match["step"])
    found = _STEP.search(name)
    return _bounded(found[1]) if found else None


def _load(path: Path) -> Any:
    if path.stat().st_size > MAX_BYTES:
        raise TooLarge(f"{path.name} is larger than {MAX_BYTES >> 20} MiB.", "Publish the result file without samples.")
    text = path.read_bytes()
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # Python's json, with which the harness writes, spells NaN and Infinity bare.
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise DataFault(f"{path.name} is not valid JSON: {error}.", "Copy the file again.") from None


def _step(path: Path, spec: EvaluationFile, document: dict[str, Any], notes: list[IngestNote]) -> int | None:
    """File name, then content, then the manifest; a contradiction and an absence are noted."""
    named, inside = step_in_name(path.name, spec.step_pattern), _step_inside(document)
    stated = [step for step in (named, inside, spec.step) if step is not None]
    if not stated:
        message = f"{path.name} does not say which step it evaluates."
        notes.append(IngestNote("step-unknown", message, {"file": path.name}))
        return None
    if len(set(stated)) > 1:
        places = f"name {named}, content {inside}, manifest {spec.step}"
        message = f"{path.name} states different steps ({places}); {stated[0]} is used."
        evidence = {"file": path.name, "name": named, "content": inside, "manifest": spec.step}
        notes.append(IngestNote("step-contradiction", message, evidence, stated[0]))
    return stated[0]


def _step_inside(document: dict[str, Any]) -> int | None:
    config = document.get("config")
    arguments = config.get("model_args") if isinstance(config, dict) else None
    if isinstance(arguments, dict):
        if isinstance(arguments.get("iteration"), int):
            return _bounded(arguments["iteration"])
        arguments = f"revision={arguments.get('revision', '')}"
    if not isinstance(arguments, str):
        return None
    revision = re.search(r"revision=([^,]*)", arguments)
    found = _STEP.search(revision[1]) if revision else None
    return _bounded(found[1]) if found else None


def _bounded(step: int | str) -> int | None:
    number = int(step) if len(str(step)) < 20 else -1
    return number if 0 <= number <= MAX_STEP else None


def _tasks(path: Path, results: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(results, dict):
        for task, metrics in results.items():
            if not isinstance(metrics, dict):
                raise DataFault(
                    f"{path.name}: results[{task!r}] is no table of metrics.", "Give the harness's own result file."
                )
            yield task, metrics
        return
    for index, entry in enumerate(results):
        if not isinstance(entry, dict) or "task_name" not in entry:
            raise DataFault(f"{path.name}: results[{index}] names no task.", "Give the harness's own result file.")
        prompt = entry.get("prompt_name")
        # The harness joins task and prompt like this in `versions`.
        task = f"{entry['task_name']}+{prompt}" if prompt else str(entry["task_name"])
        yield task, {key: value for key, value in entry.items() if key not in _PROMPT_KEYS}


def _metrics(metrics: dict[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    """``(metric, value, standard error)``; a filter other than ``none`` stays in the metric's name."""
    for key, value in metrics.items():
        name, _, chosen = key.partition(",")
        number = _number(value)
        if number is None or name.endswith("_stderr"):
            continue
        error = _number(metrics.get(f"{name}_stderr,{chosen}" if chosen else f"{name}_stderr"))
        finite = error if error is not None and math.isfinite(error) else None
        yield (name if chosen in ("", "none") else f"{name},{chosen}"), number, finite


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return None
    return parse_number(value) if isinstance(value, str) else None


def _shots(document: dict[str, Any], task: str) -> int | None:
    sources = [
        _member(document, "n-shot", task),
        _member(document, "configs", task, "num_fewshot"),
        _member(document, "config", "num_fewshot"),
    ]
    return next((shots for shots in sources if isinstance(shots, int)), None)


def _version(document: dict[str, Any], task: str) -> str | None:
    version = _member(document, "versions", task)
    return None if version is None else str(version)


def _member(document: Any, *keys: str) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _suite(shots: int | None) -> str:
    return "" if shots is None else _SUITES.get(shots, f"{shots}-shot")
