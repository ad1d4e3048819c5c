"""Evaluation results by step and task."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, select
from sqlmodel import Session, col

from portal.catalog.answers import EvaluationChange, EvaluationView, Measure, Page
from portal.catalog.paging import check_limit, check_text, make_cursor, read_cursor
from portal.catalog.release import load_facts
from portal.models import Evaluation

HIGHER = frozenset(
    [
        "acc",
        "acc_norm",
        "acc_mutual_info",
        "acc_bytes",
        "exact_match",
        "em",
        "f1",
        "mc1",
        "mc2",
        "mcc",
        "bleu",
        "chrf",
        "rouge1",
        "rouge2",
        "rougel",
        "bleurt_acc",
        "bleu_acc",
        "rouge1_acc",
        "pass@1",
        "accuracy",
        "likelihood_diff",
    ]
)
LOWER = frozenset(
    ["loss", "ppl", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter", "wer"]
)
_COLUMNS = tuple(col(getattr(Evaluation, name)) for name in EvaluationView.__dataclass_fields__)


def list_evaluations(
    session: Session, run: str, limit: int = 100, cursor: str | None = None, task: str | None = None
) -> Page[EvaluationView]:
    """Results by step, then task and metric; ``task`` narrows them to one."""
    facts = load_facts(session, run)
    start = read_cursor(facts.head.version, cursor)
    conditions = [col(Evaluation.release_id) == facts.head.id] + (
        [col(Evaluation.task) == check_text(task, "task")] if task is not None else []
    )
    total = int(session.execute(select(func.count()).select_from(Evaluation).where(*conditions)).scalar_one())
    statement = (
        select(*_COLUMNS)
        .where(*conditions)
        .order_by(
            col(Evaluation.step).is_(None),
            col(Evaluation.step),
            col(Evaluation.suite),
            col(Evaluation.task),
            col(Evaluation.metric),
            col(Evaluation.id),
        )
        .limit(check_limit(limit))
        .offset(start)
    )
    items = [EvaluationView(*row) for row in session.execute(statement)]
    end = start + len(items)
    return Page(items, total, make_cursor(facts.head.version, end) if end < total else None)


def list_measures(session: Session, run: str) -> list[Measure]:
    """What was measured: each suite, task, metric, shots and version with how many results it has, by task. One query.

    Results of other shots or of another version of a task are no points of one curve.
    """
    facts = load_facts(session, run)
    names = tuple(col(getattr(Evaluation, name)) for name in ("suite", "task", "metric", "shots", "version"))
    value = col(Evaluation.value)
    statement = (
        select(
            *names, func.count(), func.min(Evaluation.step), func.max(Evaluation.step), func.min(value), func.max(value)
        )
        .where(col(Evaluation.release_id) == facts.head.id)
        .group_by(*names)
        .order_by(names[1], names[2], names[0], names[3].is_not(None), names[3], names[4].is_not(None), names[4])
    )
    return [replace(Measure(*row), better=better_way(row[2])) for row in session.execute(statement)]


def better_way(metric: str) -> str | None:
    """Whether ``higher`` or ``lower`` is better, by the metric names of lm-evaluation-harness; None for others."""
    name = metric.split(",")[0].casefold()
    return "higher" if name in HIGHER else "lower" if name in LOWER else None


def list_results(session: Session, run: str, measure: Measure) -> list[EvaluationView]:
    """Every result of one measure, by step; those without a step last."""
    facts = load_facts(session, run)
    statement = (
        select(*_COLUMNS)
        .where(
            col(Evaluation.release_id) == facts.head.id,
            col(Evaluation.suite) == measure.suite,
            col(Evaluation.task) == measure.task,
            col(Evaluation.metric) == measure.metric,
            col(Evaluation.shots).is_not_distinct_from(measure.shots),
            col(Evaluation.version).is_not_distinct_from(measure.version),
        )
        .order_by(col(Evaluation.step).is_(None), col(Evaluation.step), col(Evaluation.id))
    )
    return [EvaluationView(*row) for row in session.execute(statement)]


def load_evaluations(session: Session, release_id: int, step: int) -> list[EvaluationView]:
    """All results at one step."""
    statement = (
        select(*_COLUMNS)
        .where(col(Evaluation.release_id) == release_id, col(Evaluation.step) == step)
        .order_by(col(Evaluation.suite), col(Evaluation.task), col(Evaluation.metric), col(Evaluation.id))
    )
    return [EvaluationView(*row) for row in session.execute(statement)]


def load_changes(session: Session, release_id: int, step: int) -> list[EvaluationChange]:
    """All results at one step, each beside that of the latest evaluated step before; two queries.

    Only equal suite, task, metric, shots and version are set against each other.
    """
    results = load_evaluations(session, release_id, step)
    latest = (
        select(func.max(Evaluation.step))
        .where(col(Evaluation.release_id) == release_id, col(Evaluation.step) < step)
        .scalar_subquery()
    )
    statement = select(*_COLUMNS).where(col(Evaluation.release_id) == release_id, col(Evaluation.step) == latest)
    before = {_measure(e): e for e in (EvaluationView(*row) for row in session.execute(statement))} if results else {}
    return [_change(result, before.get(_measure(result))) for result in results]


def _measure(e: EvaluationView) -> tuple[str, str, str, int | None, str | None]:
    return e.suite, e.task, e.metric, e.shots, e.version


def _change(now: EvaluationView, before: EvaluationView | None) -> EvaluationChange:
    if before is None:
        return EvaluationChange(**now.__dict__)
    change = None if now.value is None or before.value is None else now.value - before.value
    return EvaluationChange(**now.__dict__, previous_step=before.step, previous_value=before.value, change=change)
