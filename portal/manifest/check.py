"""Contradictions between the parts of a manifest that its shape alone does not forbid.

What contradicts itself is refused. What may be true although it looks odd (an order past its data, tokens that
do not add up, steps that are missing) is published and becomes a finding of the scan instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from portal.errors import Fault
from portal.manifest.check_checkpoints import check_checkpoints
from portal.manifest.check_data import check_data
from portal.manifest.check_numbers import check_numbers
from portal.manifest.check_paths import check_link, check_path
from portal.manifest.faults import Contradiction, Place, shown
from portal.manifest.schema import Manifest, Stage

RESERVED = frozenset(
    [
        "account",
        "api",
        "compare",
        "datasets",
        "docs",
        "files",
        "healthz",
        "jobs",
        "login",
        "metrics",
        "models",
        "r",
        "readyz",
        "runs",
        "scorecard",
        "search",
        "sign-in",
        "promises",
        "sign-out",
        "history",
        "settings",
        "spaces",
        "static",
        "workers",
    ]
)
"""First parts of the portal's own addresses. A run's short address is ``/org/name``, so no organisation is called so."""


def check(manifest: Manifest) -> list[Fault]:
    """Every contradiction in ``manifest``; empty when it can be published. Never raises."""
    return [c.fault for c in contradictions(manifest)]


def contradictions(manifest: Manifest, known_chunks: frozenset[str] = frozenset()) -> list[Contradiction]:
    """The same with their places; ``known_chunks`` are names of chunks that have faults of their own."""
    return [
        *_run(manifest),
        *_stages(manifest),
        *check_checkpoints(manifest),
        *check_data(manifest, known_chunks),
        *check_numbers(manifest, known_chunks),
    ]


def _run(manifest: Manifest) -> Iterator[Contradiction]:
    training, parent = manifest.training, manifest.parent
    organisation = manifest.run.partition("/")[0]
    if organisation in RESERVED:
        yield Contradiction(
            ("run",), f"begins with {organisation}/, an address of the portal itself", "Choose another organisation."
        )
    if training.last_step and training.first_step > training.last_step:
        yield Contradiction(
            ("training", "first_step"),
            f"{training.first_step:,} lies after last_step {training.last_step:,}",
            "Correct one of them.",
        )
    if parent and parent.run == manifest.run:
        yield Contradiction(
            ("parent", "run"), "is the run itself", "Name the run it descends from, or leave parent out."
        )
    if manifest.tokenizer:
        yield from check_path(manifest.tokenizer, ("tokenizer",))
    if manifest.model.config:
        yield from check_path(manifest.model.config, ("model", "config"))
    for name, link in manifest.links.items():
        yield from check_link(link, ("links", name))


def _stages(manifest: Manifest) -> Iterator[Contradiction]:
    stages, training = manifest.stages, manifest.training
    yield from _stage_names(stages)
    for number, stage in enumerate(stages):
        place: Place = ("stages", number)
        if stage.first_step > stage.last_step:
            yield Contradiction(
                (*place, "first_step"),
                f"{stage.first_step:,} lies after last_step {stage.last_step:,}",
                "Correct one of them.",
            )
        if training.last_step and stage.last_step > training.last_step:
            yield Contradiction(
                (*place, "last_step"),
                f"{stage.last_step:,} lies beyond the run's last step {training.last_step:,}",
                "Correct it, or training.last_step.",
            )
        if number:
            yield from _neighbours(stages[number - 1], stage, place)
    yield from _stage_ends(manifest)


def _stage_names(stages: Sequence[Stage]) -> Iterator[Contradiction]:
    first: dict[str, int] = {}
    for number, stage in enumerate(stages):
        if stage.name in first:
            yield Contradiction(
                ("stages", number, "name"),
                f"{shown(stage.name)!r} is already the name of stages[{first[stage.name]}]",
                "Give each stage its own name.",
            )
        first.setdefault(stage.name, number)


def _neighbours(before: Stage, stage: Stage, place: Place) -> Iterator[Contradiction]:
    where = (*place, "first_step")
    if stage.first_step < before.first_step:
        yield Contradiction(
            where,
            f"{stage.first_step:,} lies before the stage listed above it",
            "List stages in the order of their steps.",
        )
    elif stage.first_step <= before.last_step:
        yield Contradiction(
            where,
            f"{stage.first_step:,} overlaps {shown(before.name)}, which ends at step {before.last_step:,}",
            "A step belongs to one stage: correct the borders.",
        )
    elif stage.first_step > before.last_step + 1:
        yield Contradiction(
            where,
            f"leaves a gap after {shown(before.name)}, which ends at step {before.last_step:,}",
            f"Begin at step {before.last_step + 1:,}, or describe the steps between as a stage.",
        )


def _stage_ends(manifest: Manifest) -> Iterator[Contradiction]:
    stages, training = manifest.stages, manifest.training
    if not stages:
        return
    first = min(s.first_step for s in stages)
    if first != training.first_step:
        yield Contradiction(
            ("stages", 0, "first_step"),
            f"the stages begin at step {first:,}, the run at step {training.first_step:,}",
            "Let the stages cover every step of the run.",
        )
    last = max(s.last_step for s in stages)
    if last < training.last_step:
        yield Contradiction(
            ("stages", len(stages) - 1, "last_step"),
            f"the stages end at step {last:,}, the run at step {training.last_step:,}",
            "Let the stages cover every step of the run.",
        )
