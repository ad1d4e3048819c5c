"""One file format per module; `read_metric_file` and `read_evaluation_file` choose."""

from __future__ import annotations

from pathlib import Path

from portal.errors import DataFault, FileMissing
from portal.manifest.schema import EvaluationFile, MetricFile
from portal.metrics.events import DetectedEvent, detect_events
from portal.metrics.ingest.arrow import read_csv, read_parquet
from portal.metrics.ingest.assemble import assemble, gap_notes
from portal.metrics.ingest.evaluation_csv import read_evaluation_csv
from portal.metrics.ingest.evaluations import EvaluationRow, IngestedEvaluations, find_repeats, read_lm_eval
from portal.metrics.ingest.jsonl import read_jsonl
from portal.metrics.ingest.segments import join_segments
from portal.metrics.ingest.table import Ingested, IngestNote, StepsOf
from portal.metrics.ingest.tensorboard import read_tensorboard
from portal.metrics.ingest.wandb import is_wandb_export, read_wandb_csv

__all__ = [
    "DetectedEvent",
    "EvaluationRow",
    "IngestNote",
    "Ingested",
    "IngestedEvaluations",
    "StepsOf",
    "detect_events",
    "find_repeats",
    "gap_notes",
    "join_segments",
    "read_evaluation_file",
    "read_metric_file",
]

_TABLES = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet}
_BY_RESULTS = {"wandb-csv": read_wandb_csv, "tensorboard": read_tensorboard}
_BY_SUFFIX = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


def read_metric_file(path: Path, spec: MetricFile, steps_of_tokens: StepsOf | None = None) -> Ingested:
    """Read one file of numbers by step.

    ``steps_of_tokens`` maps an int64 array of the file's x (tokens or samples, as ``spec.x_kind``
    says) to steps, below 0 where none belongs. Points without a step, cells that are no numbers,
    repeated and unsorted steps are in the notes. Raises DataFault naming file, place and remedy
    when the file cannot be read as what it claims to be.
    """
    kind = spec.format or _format(path)
    source = spec.file if not any(c in spec.file for c in "*?[") else path.name
    _must_hold_bytes(path)
    if kind in _BY_RESULTS:
        return _BY_RESULTS[kind](path, spec, source, steps_of_tokens)
    return assemble(_TABLES[kind](path), spec, source, steps_of_tokens)


def read_evaluation_file(path: Path, spec: EvaluationFile, source: str | None = None) -> IngestedEvaluations:
    """Read one file of evaluation results; ``source`` is the name kept with each row (default: the file's).

    Raises DataFault when the file is neither of a known dialect nor whole.
    """
    _must_hold_bytes(path)
    read = read_evaluation_csv if spec.format == "csv" else read_lm_eval
    return read(path, spec, source or path.name)


def _format(path: Path) -> str:
    if "tfevents" in path.name:
        return "tensorboard"
    kind = _BY_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise DataFault(
            f"{path.name}: its name does not tell its format.",
            "Set format to csv, jsonl, parquet, tensorboard or wandb-csv.",
        )
    if kind == "csv" and path.is_file():
        with path.open("rb") as file:
            return "wandb-csv" if is_wandb_export(file.readline(1 << 20)) else "csv"
    return kind


def _must_hold_bytes(path: Path) -> None:
    if not path.is_file():
        raise FileMissing(f"{path.name} is not there.", "Publish it with the run, or correct its path in the manifest.")
    if not path.stat().st_size:
        raise DataFault(f"{path.name} is empty.", "Publish the file that holds the numbers.")
