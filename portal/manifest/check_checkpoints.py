"""Checkpoints: one way of saying which step, steps inside the run, labels that name one checkpoint each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from portal.manifest.check_paths import check_path, check_template
from portal.manifest.expand import CheckpointEntry, StageEntry, expand_checkpoint, stages_of
from portal.manifest.faults import Contradiction, Place, nearest, shown
from portal.manifest.schema import Checkpoint, File, Manifest, StepPattern

MAX_CHECKPOINTS = 1_000_000
MAX_FILES = 1_000_000
"""Over all checkpoints or all chunks."""


def check_checkpoints(manifest: Manifest) -> Iterator[Contradiction]:
    """Contradictions of every checkpoint, alone and with the others."""
    stages = stages_of(manifest)
    sound: list[int] = []
    for number, checkpoint in enumerate(manifest.checkpoints):
        place: Place = ("checkpoints", number)
        faults = [
            *_which(checkpoint, place),
            *_templates(checkpoint, place),
            *_within(checkpoint, manifest, stages, place),
        ]
        yield from faults
        if not faults:
            sound.append(number)
    counts = [_count(c) for c in manifest.checkpoints]
    files = sum(n * file_count(c.files) for n, c in zip(counts, manifest.checkpoints, strict=True))
    if sum(counts) > MAX_CHECKPOINTS or files > MAX_FILES:
        yield Contradiction(
            ("checkpoints",),
            f"stands for {sum(counts):,} checkpoints with {files:,} files",
            f"At most {MAX_CHECKPOINTS:,} checkpoints and {MAX_FILES:,} listed files can be published.",
        )
        return
    yield from _expanded(manifest, stages, sound)


def check_files(files: list[File], names: tuple[str, ...], place: Place) -> Iterator[Contradiction]:
    """Templates of listed files; ``names`` are the placeholders that have values."""
    for number, file in enumerate(files):
        where: Place = (*place, number)
        known = (*names, "shard") if file.shards else names
        yield from check_template(file.path, known, (*where, "path"))
        yield from check_path(file.path, (*where, "path"))
        if file.shards and (file.size is not None or file.sha256 is not None):
            yield Contradiction(
                (*where, "shards"), "stands for many files that share one size or sha256", "List them one by one."
            )


def file_count(files: list[File]) -> int:
    """How many files a list stands for."""
    return sum(f.shards.count if f.shards else 1 for f in files)


def _which(c: Checkpoint, place: Place) -> Iterator[Contradiction]:
    ways = [name for name, held in (("step", c.step is not None), ("steps", c.steps), ("parents", c.parents)) if held]
    if len(ways) > 1:
        yield Contradiction(
            place, f"has {' and '.join(ways)}", "A checkpoint has a step, a pattern of steps, or parents: keep one."
        )
    if not ways and not (c.labels and c.note):
        yield Contradiction(
            place,
            "has neither step nor steps nor parents",
            "Add one; where its step was never published, give labels and a note that says so.",
        )
    if c.steps is not None:
        yield from _pattern(c.steps, (*place, "steps"))
        for name in ("tokens", "local_step"):
            if getattr(c, name) is not None:
                yield Contradiction(
                    (*place, name), "cannot be one number for a pattern of steps", "Leave it out; it is computed."
                )
    if c.missing and c.files:
        yield Contradiction(
            (*place, "missing"), "is said of a checkpoint whose files are listed", "Keep one of the two."
        )
    if not (c.missing or c.location or c.files):
        yield Contradiction(
            place, "has neither location nor files", "Say where it lies, or `missing: true` when it was never released."
        )


def _pattern(steps: StepPattern, place: Place) -> Iterator[Contradiction]:
    if steps.values is not None:
        if any(v is not None for v in (steps.first, steps.every, steps.count)):
            yield Contradiction(place, "has values and a rule", "Keep `values`, or first, every and count.")
        if not steps.values:
            yield Contradiction((*place, "values"), "is empty", "List steps, or remove the checkpoint.")
        elif len(set(steps.values)) < len(steps.values):
            twice = next(v for v, times in Counter(steps.values).items() if times > 1)
            yield Contradiction((*place, "values"), f"holds step {twice:,} twice", "List each step once.")
        return
    for name in ("first", "count"):
        if getattr(steps, name) is None:
            yield Contradiction((*place, name), "is missing", "A pattern needs first, every and count, or values.")
    if steps.every is None and (steps.count or 0) > 1:
        yield Contradiction((*place, "every"), "is missing", "Write the distance between the steps.")


def _templates(c: Checkpoint, place: Place) -> Iterator[Contradiction]:
    names: tuple[str, ...] = (
        ("index",) if c.step is None and c.steps is None else ("index", "step", "local_step", "stage")
    )
    for number, label in enumerate(c.labels):
        yield from check_template(label, names, (*place, "labels", number))
    if c.location is not None:
        yield from check_template(c.location, names, (*place, "location"))
        yield from check_path(c.location, (*place, "location"))
    yield from check_files(c.files, names, (*place, "files"))


def _within(c: Checkpoint, manifest: Manifest, stages: list[StageEntry], place: Place) -> Iterator[Contradiction]:
    last = manifest.training.last_step
    highest, where = _highest(c)
    if last and highest is not None and highest > last:
        yield Contradiction(
            (*place, *where),
            f"step {highest:,} lies beyond the run's last step {last:,}",
            "Correct it, or training.last_step.",
        )
    named = [s.name for s in stages]
    if c.stage is not None and c.stage not in named and manifest.stages:
        yield Contradiction((*place, "stage"), f"{shown(c.stage)!r} is no stage of the run", nearest(c.stage, named))
    stage = next((s for s in stages if s.name == c.stage), None)
    if stage and c.step and not stage.first_step - 1 <= c.step <= stage.last_step:
        yield Contradiction(
            (*place, "step"),
            f"{c.step:,} lies outside stage {shown(stage.name)} (steps {stage.first_step:,} to {stage.last_step:,})",
            "Steps count over the whole run; local_step counts inside the stage.",
        )
    elif stage and c.step and c.local_step is not None and stage.local_step(c.step) != c.local_step:
        yield Contradiction(
            (*place, "local_step"),
            f"step {c.step:,} is local step {stage.local_step(c.step):,} of stage {shown(stage.name)}, not {c.local_step:,}",
            "Correct one of them, or the stage's first_local_step.",
        )
    for number, parent in enumerate(c.parents):
        if parent.run in (None, manifest.run) and last and parent.step > last:
            yield Contradiction(
                (*place, "parents", number, "step"),
                f"{parent.step:,} lies beyond the run's last step {last:,}",
                "Name the run the parent comes from, or correct its step.",
            )


def _highest(c: Checkpoint) -> tuple[int | None, tuple[str, ...]]:
    if c.steps is None:
        return c.step, ("step",)
    if c.steps.values:
        return max(c.steps.values), ("steps", "values")
    return (c.steps.first or 0) + (c.steps.every or 1) * ((c.steps.count or 1) - 1), ("steps",)


def _count(c: Checkpoint) -> int:
    if c.steps is None:
        return 1
    return len(c.steps.values) if c.steps.values is not None else c.steps.count or 1


def _expanded(manifest: Manifest, stages: list[StageEntry], sound: list[int]) -> Iterator[Contradiction]:
    """What only shows once patterns are written out: repeated labels, and paths that a stage's name leads astray."""
    labels: dict[str, int] = {}
    for number in sound:
        place: Place = ("checkpoints", number)
        complained: set[str] = set()
        for entry in expand_checkpoint(manifest.checkpoints[number], f"checkpoints[{number}]", stages):
            for fault in (*_repeated(entry, labels, place), *_paths(entry, place)):
                # One line may stand for thousands of checkpoints with one and the same fault.
                kind = str(fault.place)
                if kind not in complained:
                    complained.add(kind)
                    yield fault


def _repeated(entry: CheckpointEntry, labels: dict[str, int], place: Place) -> Iterator[Contradiction]:
    for label in entry.labels:
        if label in labels:
            owner = f"checkpoints[{labels[label]}]" if labels[label] != place[1] else "another checkpoint of this line"
            yield Contradiction(
                (*place, "labels"), f"{shown(label)!r} is already a label of {owner}", "A label names one checkpoint."
            )
        elif isinstance(place[1], int):
            labels[label] = place[1]


def _paths(entry: CheckpointEntry, place: Place) -> Iterator[Contradiction]:
    if entry.location is not None:
        yield from check_path(entry.location, (*place, "location"))
    for file in entry.files:
        yield from check_path(file.path, (*place, "files"))
