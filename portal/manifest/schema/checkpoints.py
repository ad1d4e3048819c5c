"""Checkpoints: one, a pattern of them, or a soup."""

from __future__ import annotations

from portal.manifest.schema.words import Count, File, Label, Part, Positive, Role, RunName, Text


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
