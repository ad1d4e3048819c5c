"""What is trained, from what, and in which batches."""

from __future__ import annotations

from portal.manifest.schema.words import Count, Label, Part, Positive, RunName, Sha256, Text


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
    """Path of the model's config.json inside the release, or where it lies elsewhere."""
    config_sha256: Sha256 | None = None
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
