"""Numbers of a release: metric files, evaluations and configs, read before anything is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from portal.catalog.answers import FoundFinding
from portal.catalog.recorded import RecordedConfig
from portal.errors import Fault, PortalError
from portal.exchange.discover import Discovery
from portal.exchange.places import FoundFile, public_place
from portal.manifest import Manifest, StageEntry, stages_of
from portal.manifest.parse import parse
from portal.manifest.schema import Config, MetricFile
from portal.metrics.ingest import (
    DetectedEvent,
    EvaluationRow,
    IngestNote,
    StepsOf,
    detect_events,
    find_repeats,
    gap_notes,
    join_segments,
    read_evaluation_file,
    read_metric_file,
)
from portal.metrics.series import SeriesData

MAX_CONFIG_BYTES = 1 << 20
"""Larger configs keep their file and no values."""


@dataclass
class Numbers:
    """What was read, in memory."""

    series: list[SeriesData] = field(default_factory=list)
    detected: list[DetectedEvent] = field(default_factory=list)
    evaluations: list[EvaluationRow] = field(default_factory=list)
    configs: list[RecordedConfig] = field(default_factory=list)
    findings: list[FoundFinding] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def ingest(manifest: Manifest, found: Discovery) -> Numbers:
    """Read every metric, evaluation and config file that is here, or was fetched; what cannot be read is in ``faults``."""
    numbers = Numbers()
    stages = stages_of(manifest)
    parts = [s for spec, files in found.metrics for f in files for s in _metrics(spec, f, stages, numbers)]
    numbers.series, notes = join_segments(parts)
    _keep_notes(numbers, [*notes, *gap_notes(numbers.series)], "metrics")
    numbers.detected = _new_events(manifest, detect_events(numbers.series))
    for spec, files in found.evaluations:
        for file in files:
            if _is_here(file, numbers):
                _read_evaluations(file, spec, numbers)
    _keep_notes(numbers, find_repeats(numbers.evaluations), "evaluations")
    numbers.configs = [_config(entry, file) for entry, file in found.configs]
    return numbers


def steps_of(stages: Sequence[StageEntry], kind: str) -> StepsOf | None:
    """From tokens or samples read to the step that ended there; -1 where no step ends at that count.

    None when the batch size of a stage is not known.
    """
    sizes = [s.tokens_per_step if kind == "tokens" else s.rows_per_step for s in stages]
    if not stages or any(size is None for size in sizes):
        return None
    size = np.array(sizes, dtype=np.int64)
    first = np.array([s.first_step for s in stages], dtype=np.int64)
    ends = np.cumsum(size * np.array([s.last_step - s.first_step + 1 for s in stages], dtype=np.int64))

    def convert(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        stage = ends.searchsorted(counts, "left").clip(max=len(ends) - 1)
        done = counts - (ends - np.diff(ends, prepend=0))[stage]
        steps: npt.NDArray[np.int64] = first[stage] - 1 + done // size[stage]
        return np.where((done % size[stage] == 0) & (counts >= 0), steps, -1)

    return convert


def _metrics(spec: MetricFile, file: FoundFile, stages: Sequence[StageEntry], numbers: Numbers) -> list[SeriesData]:
    if not _is_here(file, numbers) or file.local is None:
        return []
    try:
        read = read_metric_file(file.local, spec, None if spec.x_kind == "step" else steps_of(stages, spec.x_kind))
    except PortalError as error:
        numbers.faults.append(Fault(file.where, error.message.rstrip("."), error.remedy))
        return []
    _keep_notes(numbers, read.notes, file.path)
    return read.series


def _read_evaluations(file: FoundFile, spec: Any, numbers: Numbers) -> None:
    if file.local is None:
        return
    try:
        read = read_evaluation_file(file.local, spec, file.path)
    except PortalError as error:
        numbers.faults.append(Fault(file.where, error.message.rstrip("."), error.remedy))
        return
    numbers.evaluations += read.rows
    _keep_notes(numbers, read.notes, file.path)


def _is_here(file: FoundFile, numbers: Numbers) -> bool:
    if file.local is not None:
        return True
    place = public_place(file.uri)
    if not file.told:
        numbers.findings.append(
            FoundFinding(
                "numbers-elsewhere",
                "info",
                f"The numbers in {place} lie outside this portal and were not read.",
                None,
                {"uri": place, "where": file.where},
                file.uri,
            )
        )
    return False


def _keep_notes(numbers: Numbers, notes: Sequence[IngestNote], subject: str) -> None:
    numbers.findings += [
        FoundFinding(n.code, "info", n.message, n.step, dict(n.evidence), f"{subject}: {n.message}") for n in notes
    ]


def _new_events(manifest: Manifest, detected: Sequence[DetectedEvent]) -> list[DetectedEvent]:
    """Detected events that the manifest does not declare itself."""
    declared = [(e.kind, e.step, e.last_step or e.step) for e in manifest.events if e.step is not None]
    return [
        d
        for d in detected
        if not any(
            kind == d.kind and first <= d.last_step and d.step <= (last or first) for kind, first, last in declared
        )
    ]


def _config(entry: Config, file: FoundFile | None) -> RecordedConfig:
    return RecordedConfig(entry, file.path if file else None, dict(entry.values) or _values(file))


def _values(file: FoundFile | None) -> dict[str, Any]:
    """Values of a small JSON or YAML config; any other file is kept as it is, without values."""
    if file is None or file.local is None or (file.size or 0) > MAX_CONFIG_BYTES:
        return {}
    try:
        text = file.local.read_bytes()
        held = (
            orjson.loads(text)
            if file.path.endswith(".json")
            else _yaml(text)
            if file.path.endswith((".yaml", ".yml"))
            else {}
        )
    except (OSError, ValueError, PortalError):
        return {}
    return held if isinstance(held, dict) else {}


def _yaml(text: bytes) -> Any:
    """As manifests are read: aliases that stand for millions of values are refused before anything is built."""
    return parse(text, "config.yaml")[0]
