"""What was logged along the run: numbers, configs, events, evaluations, contradictions."""

from __future__ import annotations

from typing import Any, Literal

from portal.manifest.schema.words import Count, Label, Part, Positive, Sha256, Text


class SeriesDefinition(Part):
    """What one series measures."""

    column: str
    group: str = "train"
    unit: str = ""
    reduction: str = ""
    description: Text = ""


class MetricFile(Part):
    """One file of numbers by step."""

    file: str
    size: Count | None = None
    sha256: Sha256 | None = None
    format: Literal["csv", "jsonl", "parquet", "tensorboard", "wandb-csv"] | None = None
    """Default: by file name."""
    x: str = "step"
    """Column of the step (``step``, ``_step``, ``Step``, ``throughput/total_tokens``)."""
    x_kind: Literal["step", "tokens", "samples"] = "step"
    step_offset: int = 0
    """Added to x of kind ``step``: 1 where the log counts batches from 0."""
    series: dict[Label, SeriesDefinition] = {}
    """Empty: every numeric column becomes a series of its own name."""
    group: str = "train"


class Code(Part):
    """The code in force."""

    repo: str | None = None
    commit: str | None = None
    path: str | None = None


class Config(Part):
    """Hyper-parameters in force from ``first_step`` until the next config."""

    file: str | None = None
    values: dict[str, Any] = {}
    first_step: Positive = 1
    last_step: Positive | None = None
    code: Code | None = None
    note: Text = ""


EventKind = Literal[
    "nan_loss",
    "spike",
    "restart",
    "rollback",
    "chunk_skipped",
    "chunk_repeated",
    "chunk_postponed",
    "precision_change",
    "stage_change",
    "note",
]


class Event(Part):
    """Something that happened at a step (``step: null`` when the authors never said when)."""

    step: Count | None = None
    last_step: Count | None = None
    kind: EventKind
    chunk: Label | None = None
    note: Text = ""
    evidence: str = ""


class EvaluationFile(Part):
    """Evaluation results; ``file`` may be a glob below the manifest."""

    file: str
    format: Literal["lm-eval", "csv"] = "lm-eval"
    step: Count | None = None
    """When neither the file name nor its content names the step."""
    step_pattern: str | None = None
    """Regular expression with group ``step`` applied to the file name."""
    suite: str = ""
    by: str = ""
    """Who measured."""


class KnownFinding(Part):
    """A contradiction the importer met in the source files; shown as a finding."""

    code: Label
    severity: Literal["error", "warning", "info"] = "warning"
    message: Text
    step: Count | None = None
    evidence: dict[str, Any] = {}
