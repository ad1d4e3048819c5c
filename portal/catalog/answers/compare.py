"""Several runs or checkpoints side by side."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ComparedSubject:
    """One column: a run as a whole, or one step of it."""

    subject: str
    """As asked for: ``org/name`` or ``org/name@step``."""
    run: str
    version: int
    title: str
    synthetic: bool
    step: int | None
    """None for the run as a whole."""
    label: str | None
    """The checkpoint's label, where one lies at the step."""
    last_step: int


@dataclass(frozen=True)
class ComparedRow:
    """One line of a table: a value per subject, None where a subject has none."""

    name: str
    values: list[str | None]
    same: bool
    """True where every subject has it and all are equal."""


@dataclass(frozen=True)
class ComparedResult:
    """One evaluation result."""

    step: int | None
    value: float | None
    special: str | None
    stderr: float | None
    by: str
    results: int
    """How many results this subject has for it at this step; the one recorded last is shown."""


@dataclass(frozen=True)
class ComparedEvaluation:
    """One metric of one task, measured in one setting with one number of shots."""

    suite: str
    task: str
    metric: str
    shots: int | None
    results: list[ComparedResult | None]
    better: str | None
    """``higher`` or ``lower``; None where the portal does not know which is better."""
    best: list[int]
    """Places of the best results; empty where nobody can say, or only one was measured."""


@dataclass(frozen=True)
class ComparedSource:
    """Share of a source in the tokens each subject had read, 0 to 1; None where that is not known."""

    name: str
    shares: list[float | None]


@dataclass(frozen=True)
class ComparedFile:
    """A file of the same name in the checkpoints."""

    name: str
    sizes: list[int | None]
    sha256: list[str | None]
    present: list[bool]
    verdict: str
    """``equal`` or ``different`` by sha256 (or by size), ``unknown`` where not all are hashed, ``missing`` in some."""


@dataclass(frozen=True)
class ComparedSeries:
    """One panel: the series each subject's run gives it, by name; None where it has none."""

    name: str
    series: list[str | None]
    units: list[str | None]


@dataclass(frozen=True)
class Comparison:
    """Two to eight subjects, each list in their order."""

    subjects: list[ComparedSubject]
    facts: list[ComparedRow]
    config: list[ComparedRow]
    """Every setting of any of them, by name; values as JSON, text as it is."""
    config_steps: list[int | None]
    """The first step of the config that is shown; None where none is published for that step."""
    evaluations: list[ComparedEvaluation]
    evaluations_total: int
    """More than are listed where there are very many."""
    sources: list[ComparedSource]
    files: list[ComparedFile]
    """Of the checkpoints, where steps are compared."""
    panels: list[ComparedSeries]
    """What is drawn."""
    shared: list[str]
    """Names of series that at least two of the runs have."""
