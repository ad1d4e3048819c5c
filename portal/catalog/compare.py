"""Several runs or checkpoints side by side: facts, config, evaluations, sources, files and what can be drawn of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from portal.catalog.answers import (
    ComparedRow,
    ComparedSeries,
    ComparedSource,
    ComparedSubject,
    Comparison,
    FindingCounts,
)
from portal.catalog.compare_results import compare_evaluations, compare_files
from portal.catalog.configs import config_at
from portal.catalog.facts import CheckpointFact, ReleaseFacts
from portal.catalog.hyperparameters import flatten, written
from portal.catalog.openness import Counts, count_rows, finding_counts, weakest_confidence
from portal.catalog.release import load_facts
from portal.catalog.seen import data_seen
from portal.errors import BadRequest, CheckpointNotFound

FEWEST, MOST = 2, 8
MAX_PANELS = 12
_BEFORE = r"^((train|optim|optimizer|opt)[/_. -]?)?"
ROLES = (
    ("loss", re.compile(_BEFORE + r"(loss|lm[_ ]loss|cross[_ ]?entropy([_ ]?loss)?)$", re.IGNORECASE)),
    ("gradient norm", re.compile(_BEFORE + r"(total[_ ]?)?grad(ient)?[/_. -]?norm$", re.IGNORECASE)),
    ("learning rate", re.compile(_BEFORE + r"(lr|learning[_ -]?rate)([_ ]group[_ ]?0)?$", re.IGNORECASE)),
)
"""What is drawn when nothing is named: each run's own series of that meaning, however it is called.

The whole name has to fit: ``seed2/train/lm_loss`` is the loss of another run."""


@dataclass(frozen=True)
class Subject:
    """A run as a whole, or one step of it, with what is known of it."""

    asked: str
    facts: ReleaseFacts
    step: int | None
    checkpoint: CheckpointFact | None

    @property
    def until(self) -> int:
        """The step up to which it has read."""
        return self.facts.last_step if self.step is None else self.step


def find_subject(session: Session, asked: str) -> Subject:
    """``org/name``, ``org/name@step`` or ``org/name@label``.

    RunNotFound, StepNotRecorded or CheckpointNotFound when there is no such thing; each names what is near.
    """
    run, at, place = asked.strip().partition("@")
    facts = load_facts(session, run)
    if not at:
        return Subject(asked.strip(), facts, None, None)
    labelled = facts.labels.get(place)
    if labelled is not None and labelled.row.step is not None:
        return Subject(asked.strip(), facts, labelled.row.step, labelled)
    if not re.fullmatch(r"[0-9]{1,18}", place):
        raise CheckpointNotFound(
            f"{run} has no checkpoint labelled {place[:200]!r} at a step.", "Write a step, or a label of the run."
        )
    facts.check_step(int(place))
    return Subject(asked.strip(), facts, int(place), facts.checkpoint_at(int(place)))


def compare(session: Session, subjects: Sequence[Subject], series: Sequence[str] = ()) -> Comparison:
    """Two to eight subjects; the number of queries does not depend on what their runs hold.

    ``series`` names what is drawn; without it each run's loss, gradient norm and learning rate.
    """
    if not FEWEST <= len(subjects) <= MOST:
        raise BadRequest(
            f"{len(subjects)} {'run is' if len(subjects) == 1 else 'runs are'} named.",
            f"Name {FEWEST} to {MOST}, e.g. run=org/a&run=org/b@1000.",
            parameter="run",
        )
    configs = [config_at(s.facts, s.until) for s in subjects]
    evaluations, total = compare_evaluations(session, [(s.facts.head.id, s.step) for s in subjects])
    return Comparison(
        subjects=[_head(s) for s in subjects],
        facts=_facts(session, subjects),
        config=_rows([flatten(c.values) if c else {} for c in configs]),
        config_steps=[c.first_step if c else None for c in configs],
        evaluations=evaluations,
        evaluations_total=total,
        sources=_sources(subjects),
        files=compare_files(session, [s.checkpoint.id if s.checkpoint else None for s in subjects]),
        panels=_panels(subjects, series),
        shared=_shared(subjects),
    )


def _head(subject: Subject) -> ComparedSubject:
    head, point = subject.facts.head, subject.checkpoint
    return ComparedSubject(
        subject=subject.asked,
        run=subject.facts.run,
        version=head.version,
        title=head.title or subject.facts.run,
        synthetic=head.synthetic,
        step=subject.step,
        label=point.row.labels[0] if point and point.row.labels else None,
        last_step=subject.facts.last_step,
    )


def _facts(session: Session, subjects: Sequence[Subject]) -> list[ComparedRow]:
    counts = count_rows(session, list({s.facts.head.id for s in subjects}))
    columns = [_about(s, counts.get(s.facts.head.id, Counts())) for s in subjects]
    return _rows([{name: value for name, value in column.items() if value is not None} for column in columns])


def _about(subject: Subject, counts: Counts) -> dict[str, Any]:
    head = subject.facts.head
    found = finding_counts(counts)
    known: dict[str, Any] = {
        "architecture": head.model.get("architecture"),
        "parameters": head.model.get("parameters"),
        "steps": subject.facts.last_step or None,
        "tokens": head.tokens,
        "sequence length": head.sequence_length,
        "rows per step": head.rows_per_step,
        "tokens per step": head.tokens_per_step,
        "checkpoints": counts.checkpoints,
        "chunks": counts.chunks,
        "data order": weakest_confidence(head, counts),
        "findings": _told(found),
        "trained from": head.parent_run,
        "licence of weights": head.license.get("weights"),
        "licence of data": head.license.get("data"),
    }
    return known | (_at_step(subject) if subject.step is not None else {})


def _told(found: FindingCounts) -> str:
    counted = ((found.error, "error"), (found.warning, "warning"), (found.info, "note"))
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in counted if count) or "none"


def _at_step(subject: Subject) -> dict[str, Any]:
    point = subject.checkpoint
    known = {"compared at step": subject.step, "tokens read by then": subject.facts.tokens_after(subject.step or 0)}
    if point is None:
        return known | {"checkpoint": "none at this step"}
    row = point.row
    return known | {
        "checkpoint": "missing" if row.missing else row.labels[0] if row.labels else "without a label",
        "precision": row.dtype,
        "contains": ", ".join(row.contains) or None,
        "checkpoint bytes": row.total_bytes or None,
    }


def _rows(columns: Sequence[dict[str, Any]]) -> list[ComparedRow]:
    """The union of the names; a name is the same where all have it and write it alike."""
    names = dict.fromkeys(name for column in columns for name in column)
    rows = []
    for name in names:
        values = [written(c[name]) if name in c else None for c in columns]
        rows.append(ComparedRow(name, values, all(name in c for c in columns) and len(set(values)) == 1))
    # What most of them have can be compared; what only one has comes last.
    return sorted(rows, key=lambda row: row.values.count(None))


def _sources(subjects: Sequence[Subject]) -> list[ComparedSource]:
    shares: list[dict[str, float]] = []
    for subject in subjects:
        seen = data_seen(subject.facts, subject.until)
        total = sum(source.tokens for source in seen.sources) + (seen.unattributed or 0)
        shares.append({source.source: source.tokens / total for source in seen.sources} if total else {})
    names = dict.fromkeys(name for mix in shares for name in mix)
    rows = [ComparedSource(name, [mix.get(name, 0.0) if mix else None for mix in shares]) for name in names]
    return sorted(rows, key=lambda row: -max(share or 0.0 for share in row.shares))


def _panels(subjects: Sequence[Subject], series: Sequence[str]) -> list[ComparedSeries]:
    if series:
        wanted = list(dict.fromkeys(series))[:MAX_PANELS]
        return [
            _panel(name, [name if name in s.facts.series_by_name else None for s in subjects], subjects)
            for name in wanted
        ]
    panels = [_panel(role, [_fitting(s.facts, pattern) for s in subjects], subjects) for role, pattern in ROLES]
    return [panel for panel in panels if any(panel.series)]


def _panel(name: str, chosen: list[str | None], subjects: Sequence[Subject]) -> ComparedSeries:
    units = [
        subject.facts.series_by_name[series].view.unit if series else None
        for subject, series in zip(subjects, chosen, strict=True)
    ]
    return ComparedSeries(name, chosen, units)


def _fitting(facts: ReleaseFacts, pattern: re.Pattern[str]) -> str | None:
    """The series of that meaning with most points; evaluations do not count."""
    fitting = [s.view for s in facts.series if pattern.search(s.view.name) and s.view.points and s.view.group != "eval"]
    return max(fitting, key=lambda view: view.points).name if fitting else None


def _shared(subjects: Iterable[Subject]) -> list[str]:
    runs = {s.facts.run: s.facts for s in subjects}
    names: dict[str, int] = {}
    for facts in runs.values():
        for name in facts.series_by_name:
            names[name] = names.get(name, 0) + 1
    fewest = 2 if len(runs) > 1 else 1
    return [name for name, times in names.items() if times >= fewest]
