"""The manifest as written: one pydantic model per part of ``release.yaml``.

Unknown keys are refused, because a misspelt key that is silently ignored would publish a
run that says less than its author meant.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

FORMAT = "llm360-portal/release/1"

MAX_INT = 2**53 - 1
"""Largest step, token or byte count: exact in JSON, JavaScript and 64-bit databases alike."""

Count = Annotated[int, Field(ge=0, le=MAX_INT, strict=True)]
Positive = Annotated[int, Field(ge=1, le=MAX_INT, strict=True)]
RunName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,95}/[a-z0-9][a-z0-9._-]{0,95}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(max_length=20_000)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]

Confidence = Literal["exact", "reconstructed", "chunk", "unknown"]
Role = Literal[
    "weights",
    "optimizer",
    "scheduler",
    "rng",
    "data_position",
    "config",
    "tokenizer",
    "code",
    "data",
    "index",
    "metrics",
    "evaluation",
    "other",
]


class Part(BaseModel):
    """Base of every manifest part: no unknown keys, immutable once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Parent(Part):
    """The checkpoint this run started from; ``step`` is null where it was never published."""

    run: RunName
    step: Count | None = None


class License(Part):
    """SPDX identifiers per kind of artifact."""

    code: str | None = None
    weights: str | None = None
    data: str | None = None


class Model(Part):
    """What is trained."""

    architecture: str | None = None
    parameters: Count | None = None
    config: str | None = None
    """Path of the model's config.json inside the release."""
    vocabulary: Positive | None = None
    """Number of token ids; ids at or above it are faults."""


class Geometry(Part):
    """Shape of a batch; a stage overrides the run's."""

    sequence_length: Positive | None = None
    row_length: Positive | None = None
    """Token ids per stored row (2049 where labels are the shifted tail)."""
    rows_per_step: Positive | None = None
    tokens_per_step: Positive | None = None


class Training(Geometry):
    """Batch shape and length of the whole run."""

    last_step: Count
    """0 where the number of steps was never published."""
    first_step: Positive = 1


class Stage(Geometry):
    """A named interval of steps with its own local numbering."""

    name: Label
    first_step: Positive
    last_step: Positive
    first_local_step: Positive = 1
    """Local number of ``first_step``."""
    note: Text = ""


class Shards(Part):
    """``{shard}`` in a path runs from ``first`` for ``count`` files."""

    first: Count = 0
    count: Positive


class File(Part):
    """One file: path relative to the manifest, or a URI (``hf://``, ``s3://``, ``https://``).

    With ``shards`` it stands for many, in order: ``{shard}`` in the path is filled in as by
    ``str.format``; size and digest are then not known.
    """

    path: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    size: Count | None = None
    sha256: Sha256 | None = None
    role: Role | None = None
    shards: Shards | None = None


class StepPattern(Part):
    """``first, first+every, ...`` (``count`` of them), or an explicit ``values`` list."""

    first: Count | None = None
    every: Positive | None = None
    count: Positive | None = None
    values: list[Count] | None = None


class CheckpointParent(Part):
    """One ingredient of a souped checkpoint; ``run`` names the run it comes from when that is another."""

    run: RunName | None = None
    step: Count
    stage: Label | None = None
    label: Label | None = None


class Checkpoint(Part):
    """One checkpoint (``step``), a pattern of them (``steps``), or a soup (``parents``, no step).

    A checkpoint whose step its authors never published has labels and a note, and no step.

    In ``labels``, ``location`` and file paths of a pattern, ``{index}``, ``{step}`` and
    ``{local_step}`` are filled in as by ``str.format`` (integers only).
    """

    step: Count | None = None
    steps: StepPattern | None = None
    stage: Label | None = None
    local_step: Count | None = None
    labels: list[Label] = []
    index_from: Count = 0
    tokens: Count | None = None
    """Exact tokens seen; in a pattern it is computed from the stages, never written."""
    dtype: str | None = None
    contains: list[Role] = []
    location: str | None = None
    files: list[File] = []
    parents: list[CheckpointParent] = []
    missing: bool = False
    """Declared by the authors as lost or never released."""
    note: Text = ""


class NamePattern(Part):
    """``pattern.format(index=first + k)`` for ``k < count``."""

    pattern: Label
    first: Count = 0
    count: Positive


RowFormat = Literal["jsonl", "flat", "megatron", "hdf5", "parquet", "arrow"]


class Chunk(Part):
    """One chunk (``name``) or a pattern of them (``names``)."""

    name: Label | None = None
    names: NamePattern | None = None
    files: list[File]
    format: RowFormat
    dtype: Literal["u8", "u16", "u32", "i32", "i64"] | None = None
    """Of ``flat`` files: token id type, little-endian."""
    header: Literal["none", "npy"] | None = None
    """Of ``flat`` files: ``npy`` when they begin with a real NPY header."""
    dialect: Literal["neox", "megatron"] | None = None
    """Of ``megatron`` indexes: how dtype codes 6 and 7 are read."""
    column: str | None = None
    """Column (parquet, arrow) or key (jsonl) holding token ids; default ``token_ids``."""
    rows: Count | None = None
    row_length: Positive | None = None
    tokens: Count | None = None
    sources: dict[str, float] = {}
    """Share of each source, summing to about 1."""
    skipped: bool = False
    note: Text = ""


OrderKind = Literal["sequential", "index", "permutation", "unknown"]
Generator = Literal["numpy-RandomState", "numpy-PCG64", "python-random"]


class DataOrder(Part):
    """Which rows the steps of one interval read.

    The rows of ``chunks``, concatenated as listed, are numbered 0..n-1. ``kind`` orders these
    numbers; step ``first_step + k`` reads positions ``start + k*rows_per_step`` onward.
    Chunks may be listed by name or as a pattern; a chunk may stand in several orders (read
    again) or in none (skipped).
    """

    first_step: Positive
    last_step: Positive
    chunks: list[Label] | NamePattern
    kind: OrderKind
    file: File | None = None
    """Of ``index``: the published order; raw little-endian or NPY."""
    dtype: Literal["u16", "u32", "i32", "i64", "u64"] | None = None
    rng: Generator | None = None
    seed: Count | None = None
    draw: Count = 0
    """Of ``permutation``: how many permutations of the same length were drawn from the stream before."""
    per_chunk: bool = False
    """Of ``permutation``: every listed chunk is shuffled alone with seed ``seed + k`` (k-th listed chunk)
    and read for ``steps_per_chunk`` steps; what is left of a chunk is dropped."""
    steps_per_chunk: Positive | None = None
    start: Count = 0
    confidence: Confidence | None = None
    """Default: exact for sequential and index, reconstructed for permutation, unknown for unknown."""
    assumption: Text = ""
    repeats: Text = ""


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


class Data(Part):
    """Chunks and the order in which they were read."""

    chunks: list[Chunk] = []
    order: list[DataOrder] = []


class Manifest(Part):
    """``release.yaml``, whole."""

    format: Literal["llm360-portal/release/1"]
    run: RunName
    kind: Literal["pretrain", "finetune", "resume"] = "pretrain"
    title: Annotated[str, StringConstraints(max_length=300)] = ""
    description: Text = ""
    synthetic: bool = False
    """True for generated stand-ins; every page says so."""
    parent: Parent | None = None
    license: License = License()
    links: dict[str, str] = {}
    model: Model = Model()
    tokenizer: str | None = None
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
