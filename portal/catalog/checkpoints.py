"""Checkpoints: list them, find one by step or label."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from sqlmodel import Session, col

from portal.catalog.answers import CheckpointDetail, CheckpointRef, CheckpointRow, CheckpointView, EvaluationView, Page
from portal.catalog.configs import changes_between
from portal.catalog.evaluations import load_changes, load_evaluations
from portal.catalog.facts import CheckpointFact, ReleaseFacts
from portal.catalog.files import Links, load_files
from portal.catalog.jobs.verdicts import list_verdicts
from portal.catalog.lineage import load_derived
from portal.catalog.paging import slice_page
from portal.catalog.release import load_facts
from portal.catalog.seen import data_seen
from portal.errors import CheckpointNotFound
from portal.models import File
from portal.settings import Settings

_NUMBER = re.compile(r"^-?\d+$")
MAX_DIGITS = 40


def list_checkpoints(session: Session, run: str, limit: int = 100, cursor: str | None = None) -> Page[CheckpointRow]:
    """Checkpoints by step; soups, which have none, last."""
    facts = load_facts(session, run)
    return slice_page([c.row for c in facts.checkpoints], facts.head.version, limit, cursor)


def get_checkpoint(
    session: Session, run: str, step_or_label: int | str, settings: Settings | None = None
) -> CheckpointDetail:
    """The checkpoint of a step or a release label, with its files and all that leads to it and from it.

    CheckpointNotFound names the checkpoints around the step, StepNotRecorded the valid range.
    """
    facts = load_facts(session, run)
    found = find_checkpoint(facts, step_or_label)
    step, release = found.row.step, facts.head.id
    evaluations = [] if step is None else load_changes(session, release, step)
    view = checkpoint_view(session, facts, found, Links.of(settings), evaluations)
    before = view.previous.step if view.previous else None
    namesake = None if step is None else facts.labels.get(str(step))
    return CheckpointDetail(
        **(view.__dict__ | {"evaluations": evaluations}),
        seen=None if step is None else data_seen(facts, step),
        config_changes=[] if step is None or before is None else changes_between(facts, before, step),
        derived=[] if step is None else load_derived(session, run, step),
        namesake=namesake.ref if namesake is not None and namesake.id != found.id else None,
        verdicts=[] if step is None else list_verdicts(session, run, step),
    )


def checkpoint_view(
    session: Session,
    facts: ReleaseFacts,
    checkpoint: CheckpointFact,
    links: Links,
    evaluations: Sequence[EvaluationView] | None = None,
) -> CheckpointView:
    """A checkpoint with its files, neighbours, findings and evaluations; two queries, one where these are given."""
    row = checkpoint.row
    files = load_files(session, facts.head.id, col(File.checkpoint_id) == checkpoint.id)
    previous, following = _neighbours(facts, checkpoint)
    if evaluations is None:
        evaluations = [] if row.step is None else load_evaluations(session, facts.head.id, row.step)
    return CheckpointView(
        run=facts.run,
        step=row.step,
        stage=row.stage,
        local_step=row.local_step,
        tokens=row.tokens,
        tokens_declared=row.tokens_declared,
        labels=row.labels,
        dtype=row.dtype,
        contains=row.contains,
        missing=row.missing,
        location=row.location,
        parents=checkpoint.parents,
        note=row.note,
        files=[links.file_view(f) for f in files],
        total_bytes=row.total_bytes,
        previous=previous,
        next=following,
        findings=facts.findings_by_step.get(row.step, []) if row.step is not None else [],
        evaluations=evaluations,
    )


def find_checkpoint(facts: ReleaseFacts, step_or_label: int | str) -> CheckpointFact:
    """The checkpoint of a step, or of a label where no checkpoint has that step.

    CheckpointNotFound names those around it, StepNotRecorded the valid range.
    """
    labelled = facts.labels.get(step_or_label) if isinstance(step_or_label, str) else None
    if isinstance(step_or_label, str) and (not _NUMBER.match(step_or_label) or len(step_or_label) > MAX_DIGITS):
        if labelled is None:
            raise _no_label(facts, step_or_label)
        return labelled
    step = int(step_or_label)
    found = facts.checkpoint_at(step) or labelled
    if found is None:
        facts.check_step(step)
        raise no_checkpoint(facts, step, f"{facts.run} has no checkpoint at step {step}.")
    return found


def no_checkpoint(facts: ReleaseFacts, step: int, message: str) -> CheckpointNotFound:
    """The error that names the released checkpoints around a step."""
    nearest = facts.nearest_steps(step)
    remedy = f"The nearest are at {' and '.join(str(s) for s in nearest)}." if nearest else "The run released none."
    return CheckpointNotFound(message, remedy, nearest=nearest)


def _no_label(facts: ReleaseFacts, label: str) -> CheckpointNotFound:
    nearest = difflib.get_close_matches(label[:200], list(facts.labels), 5, 0.6)
    some = list(facts.labels)[:1] + list(facts.labels)[-1:]
    remedy = f"Labels run from {some[0]} to {some[-1]}." if some else "Its checkpoints have no labels; ask by step."
    return CheckpointNotFound(f"{facts.run} has no checkpoint labelled {label[:200]!r}.", remedy, nearest=nearest)


def _neighbours(facts: ReleaseFacts, checkpoint: CheckpointFact) -> tuple[CheckpointRef | None, CheckpointRef | None]:
    step = checkpoint.row.step
    if step is None:
        return None, None
    before, after = facts.checkpoint_before(step - 1), facts.checkpoint_after(step)
    return before.ref if before else None, after.ref if after else None
