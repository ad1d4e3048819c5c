"""Missing steps: checkpoints that the cadence promises and the release does not hold."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ScanInput

ENOUGH_TO_INFER = 10
"""Fewer checkpoints do not show a cadence."""

USUAL_SHARE = 0.8
"""A distance is the usual one when this share of neighbours keep it."""

_STEP_LABEL = re.compile(r"(?:global_?)?step[_-]?0*(\d{1,15})(?![\d.]|k|m)", re.IGNORECASE)
"""Labels that begin with the step they claim."""


def find_gaps(scanned: ScanInput) -> list[FoundFinding]:
    """Steps missing against the declared cadence, declared losses, duplicate steps, unusual distances, labels that
    name other steps."""
    present = sorted(c.step for c in scanned.checkpoints if c.step is not None and not c.checkpoint.missing)
    findings = [*_declared_missing(scanned), *_repeated_steps(present), *_other_steps(scanned)]
    if scanned.release.cadence:
        findings += _against_cadence(present, scanned.release.cadence, scanned.release.last_step)
    else:
        findings += _against_usual_distance(sorted(set(present)))
    return findings


def _declared_missing(scanned: ScanInput) -> Iterator[FoundFinding]:
    for checkpoint in scanned.checkpoints:
        if checkpoint.checkpoint.missing:
            labels = ", ".join(checkpoint.checkpoint.labels) or "no label"
            where = f"step {checkpoint.step:,}" if checkpoint.step is not None else "an unnamed step"
            yield FoundFinding(
                "checkpoint-lost",
                "info",
                f"The checkpoint at {where} ({labels}) is declared missing by its authors.",
                checkpoint.step,
                {"note": checkpoint.checkpoint.note},
                labels,
            )


def _repeated_steps(present: list[int]) -> Iterator[FoundFinding]:
    for step, times in Counter(present).items():
        if times > 1:
            yield FoundFinding(
                "step-listed-twice",
                "warning",
                f"Step {step:,} has {times} checkpoints in the manifest; which one is meant is not said.",
                step,
                {"times": times},
            )


def _other_steps(scanned: ScanInput) -> Iterator[FoundFinding]:
    """One finding for all labels: where one is wrong, mostly all are (Pythia v0 was relabelled by a factor)."""
    wrong: list[tuple[int, str]] = []
    for checkpoint in scanned.checkpoints:
        step, local = checkpoint.step, checkpoint.checkpoint.local_step
        named = [(label, _STEP_LABEL.match(label)) for label in checkpoint.checkpoint.labels]
        wrong += [
            (step, label) for label, said in named if said and step is not None and int(said[1]) not in (step, local)
        ]
    if wrong:
        step, label = wrong[0]
        yield FoundFinding(
            "label-names-other-step",
            "info",
            f"{len(wrong):,} labels name another step than the manifest, first {label[:60]} at step {step:,}.",
            step,
            {"labels": [{"step": s, "label": name} for s, name in wrong[:100]], "count": len(wrong)},
        )


def _against_cadence(present: list[int], cadence: int, last_step: int) -> Iterator[FoundFinding]:
    for first, last in _absent(present, cadence, last_step):
        count = (last - first) // cadence + 1
        span = f"step {first:,}" if count == 1 else f"{count:,} steps from {first:,} to {last:,}"
        yield FoundFinding(
            "checkpoint-missing",
            "warning",
            f"No checkpoint at {span}, though one is declared every {cadence:,} steps.",
            first,
            {"first_step": first, "last_step": last, "count": count, "cadence": cadence},
        )


def _against_usual_distance(present: list[int]) -> Iterator[FoundFinding]:
    distances = [b - a for a, b in itertools.pairwise(present)]
    if len(present) < ENOUGH_TO_INFER:
        return
    usual, times = Counter(distances).most_common(1)[0]
    if times < USUAL_SHARE * len(distances):
        return
    for before, distance in zip(present, distances, strict=False):
        if distance > usual:
            yield FoundFinding(
                "checkpoint-gap",
                "info",
                f"No checkpoint between steps {before:,} and {before + distance:,}; elsewhere they are {usual:,} steps apart. No cadence is declared.",
                before,
                {"first_step": before, "last_step": before + distance, "usual": usual},
            )


def _absent(present: list[int], cadence: int, last_step: int) -> Iterator[tuple[int, int]]:
    """First and last step of each interval without a checkpoint; from what is there, as a run may claim any length."""
    held = sorted({step for step in present if step % cadence == 0 and 0 < step <= last_step})
    for before, after in itertools.pairwise([0, *held, last_step // cadence * cadence + cadence]):
        if after - before > cadence:
            yield before + cadence, after - cadence
