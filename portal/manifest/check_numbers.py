"""Metrics, evaluations, configs, events and known findings: their files, steps and names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from portal.manifest.check_data import MAX_CHUNKS
from portal.manifest.check_paths import check_link, check_path
from portal.manifest.expand import expand_names
from portal.manifest.faults import Contradiction, Place, nearest, shown
from portal.manifest.schema import Config, EvaluationFile, Event, Manifest

MAX_REGEX = 200
MAX_REPEATS = 2
"""Repeats without an end in one expression: with each, a file's name may cost its length times more."""
_LITERAL = re.compile(r"\\.|\[\^?\]?[^\]]*\]", re.DOTALL)
"""What stands for one character: an escaped one, a class."""
_OPEN_REPEAT = re.compile(r"[*+]|\{\d*,\}")
_REPEATED_GROUP = re.compile(r"\)(?:[*+]|\{)")


def check_numbers(manifest: Manifest, known_chunks: frozenset[str] = frozenset()) -> Iterator[Contradiction]:
    """Contradictions of everything that is told by step."""
    last = manifest.training.last_step
    for number, metric in enumerate(manifest.metrics):
        yield from check_path(metric.file, ("metrics", number, "file"))
        for name in metric.series:
            if any(ord(c) < 32 for c in name):
                yield Contradiction(
                    ("metrics", number, "series"), f"{shown(name)!r} holds a control character", "Rename it."
                )
    for number, evaluation in enumerate(manifest.evaluations):
        yield from _evaluation(evaluation, last, ("evaluations", number))
    for number, config in enumerate(manifest.configs):
        yield from _config(config, last, ("configs", number))
    chunks = _chunk_names(manifest) | known_chunks
    for number, event in enumerate(manifest.events):
        yield from _event(event, last, chunks, ("events", number))
    for number, finding in enumerate(manifest.findings):
        yield from _beyond(finding.step, last, ("findings", number, "step"))


def _beyond(step: int | None, last: int, place: Place) -> Iterator[Contradiction]:
    if step is not None and last and step > last:
        yield Contradiction(place, f"step {step:,} lies beyond the run's last step {last:,}", "Correct it.")


def _evaluation(entry: EvaluationFile, last: int, place: Place) -> Iterator[Contradiction]:
    yield from check_path(entry.file, (*place, "file"))
    yield from _beyond(entry.step, last, (*place, "step"))
    if entry.step_pattern is None:
        return
    where = (*place, "step_pattern")
    try:
        groups = re.compile(entry.step_pattern).groupindex if len(entry.step_pattern) <= MAX_REGEX else None
    except (re.error, RecursionError, OverflowError) as error:
        yield Contradiction(where, f"is not a regular expression: {error}", "Write e.g. step(?P<step>\\d+).")
        return
    if groups is None:
        yield Contradiction(where, f"is longer than {MAX_REGEX} characters", "Write a shorter one.")
    elif "step" not in groups:
        yield Contradiction(where, "has no group named step", "Write e.g. step(?P<step>\\d+).")
    elif _may_run_away(entry.step_pattern):
        yield Contradiction(
            where,
            f"repeats a group, refers back to one, or has more than {MAX_REPEATS} repeats without an end",
            "Such expressions can take for ever on some names. Match only what stands around the step, e.g. step(?P<step>\\d+).",
        )


def _may_run_away(pattern: str) -> bool:
    plain = _LITERAL.sub("x", pattern)
    refers = "(?P=" in plain or re.search(r"\\[1-9]", pattern) is not None
    return refers or bool(_REPEATED_GROUP.search(plain)) or len(_OPEN_REPEAT.findall(plain)) > MAX_REPEATS


def _config(entry: Config, last: int, place: Place) -> Iterator[Contradiction]:
    if entry.file is not None:
        yield from check_path(entry.file, (*place, "file"))
    if entry.last_step is not None and entry.first_step > entry.last_step:
        yield Contradiction(
            (*place, "first_step"),
            f"{entry.first_step:,} lies after last_step {entry.last_step:,}",
            "Correct one of them.",
        )
    yield from _beyond(entry.first_step, last, (*place, "first_step"))
    if not (entry.file or entry.values or entry.code or entry.note):
        yield Contradiction(place, "says nothing", "Give a file, values, code or a note.")
    if entry.code and entry.code.repo and ":" in entry.code.repo:
        yield from check_link(entry.code.repo, (*place, "code", "repo"))


def _event(event: Event, last: int, chunks: set[str], place: Place) -> Iterator[Contradiction]:
    yield from _beyond(event.step, last, (*place, "step"))
    yield from _beyond(event.last_step, last, (*place, "last_step"))
    if event.last_step is not None and event.step is None:
        yield Contradiction((*place, "step"), "is missing although last_step is given", "Give both, or neither.")
    elif event.last_step is not None and event.step is not None and event.last_step < event.step:
        yield Contradiction(
            (*place, "last_step"), f"{event.last_step:,} lies before step {event.step:,}", "Correct one of them."
        )
    if event.chunk is not None and chunks and event.chunk not in chunks:
        yield Contradiction(
            (*place, "chunk"), f"{shown(event.chunk)!r} is no chunk of this run", nearest(event.chunk, chunks)
        )


def _chunk_names(manifest: Manifest) -> set[str]:
    names: set[str] = set()
    for chunk in manifest.data.chunks:
        if chunk.names is not None and chunk.names.count > MAX_CHUNKS:
            return set()
        try:
            names.update(name for _, name in expand_names(chunk.name, chunk.names))
        except (KeyError, ValueError, TypeError):
            # A pattern that cannot be filled in has a fault of its own.
            return set()
    return names
