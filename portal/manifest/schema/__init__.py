"""The manifest as written: one pydantic model per part of ``release.yaml``.

Unknown keys are refused, because a misspelt key that is silently ignored would publish a
run that says less than its author meant.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from portal.manifest.schema.checkpoints import Checkpoint, CheckpointParent, StepPattern
from portal.manifest.schema.data import Chunk, Data, DataOrder, Generator, OrderKind, RowFormat
from portal.manifest.schema.record import (
    Code,
    Config,
    EvaluationFile,
    Event,
    EventKind,
    KnownFinding,
    MetricFile,
    SeriesDefinition,
)
from portal.manifest.schema.training import Geometry, License, Model, Parent, Stage, Training
from portal.manifest.schema.words import (
    MAX_INT,
    Confidence,
    Count,
    File,
    Label,
    NamePattern,
    Part,
    Positive,
    Role,
    RunName,
    Sha256,
    Shards,
    Text,
)

__all__ = [
    "FORMAT",
    "MAX_INT",
    "Checkpoint",
    "CheckpointParent",
    "Chunk",
    "Code",
    "Confidence",
    "Config",
    "Count",
    "Data",
    "DataOrder",
    "EvaluationFile",
    "Event",
    "EventKind",
    "File",
    "Generator",
    "Geometry",
    "KnownFinding",
    "Label",
    "License",
    "Manifest",
    "MetricFile",
    "Model",
    "NamePattern",
    "OrderKind",
    "Parent",
    "Part",
    "Positive",
    "Role",
    "RowFormat",
    "RunName",
    "SeriesDefinition",
    "Sha256",
    "Shards",
    "Stage",
    "StepPattern",
    "Text",
    "Training",
]


FORMAT = "llm360-portal/release/1"


class Manifest(Part):
    """``release.yaml``, whole."""

    format: Literal["llm360-portal/release/1"]
    run: RunName
    kind: Literal["pretrain", "finetune", "resume"] = "pretrain"
    title: Annotated[str, StringConstraints(max_length=300)] = ""
    description: Text = ""
    synthetic: bool = False
    """True for generated stand-ins; every page says so."""
    visibility: Literal["public", "private"] = "public"
    """Private: only tokens of the run's organisation read it. Publishing closes a run, and never opens one."""
    parent: Parent | None = None
    license: License = License()
    links: dict[str, str] = {}
    model: Model = Model()
    tokenizer: str | None = None
    tokenizer_sha256: Sha256 | None = None
    """Of the tokenizer's file, where it lies elsewhere or is to be compared."""
    training: Training
    cadence: Positive | None = None
    """Declared distance between checkpoints; missing steps are measured against it."""
    stages: list[Stage] = []
    checkpoints: list[Checkpoint] = []
    data: Data = Data()
    metrics: list[MetricFile] = []
    configs: list[Config] = []
    events: list[Event] = []
    evaluations: list[EvaluationFile] = []
    findings: list[KnownFinding] = []
