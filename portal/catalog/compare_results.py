"""Evaluations and checkpoint files of several releases, asked for together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlmodel import Session, col

from portal.catalog.answers import ComparedEvaluation, ComparedFile, ComparedResult
from portal.metrics.directions import better_direction
from portal.models import Evaluation, File

MAX_EVALUATIONS = 1000
MAX_FILES = 2000
_NAMES: tuple[Any, ...] = (col(Evaluation.suite), col(Evaluation.task), col(Evaluation.metric), col(Evaluation.shots))
Key = tuple[str, str, str, int | None]


def compare_evaluations(
    session: Session, places: Sequence[tuple[int, int | None]]
) -> tuple[list[ComparedEvaluation], int]:
    """Results by task at each (release, step), and how many lines there are; without a step, the latest of each.

    Two queries. At most ``MAX_EVALUATIONS`` lines, those that most places share first.
    """
    found = [_results(rows) for rows in _load(session, places)]
    keys = dict.fromkeys(key for results in found for key in results)
    lines = [_line(key, [results.get(key) for results in found]) for key in keys]
    lines.sort(key=lambda line: (-sum(r is not None for r in line.results), line.task, line.metric, line.suite))
    return lines[:MAX_EVALUATIONS], len(lines)


def compare_files(session: Session, checkpoints: Sequence[int | None]) -> list[ComparedFile]:
    """Files of checkpoints by name, told apart by their sha256; one query, none where fewer than two are given."""
    wanted = [c for c in checkpoints if c is not None]
    if len(wanted) < 2:
        return []
    statement = (
        select(col(File.checkpoint_id), col(File.path), col(File.size), col(File.sha256))
        .where(col(File.checkpoint_id).in_(wanted))
        .order_by(col(File.position), col(File.id))
        .limit(MAX_FILES)
    )
    by_name: dict[str, dict[int, Any]] = defaultdict(dict)
    for row in session.execute(statement):
        by_name[row.path.rsplit("/", 1)[-1]].setdefault(row.checkpoint_id, row)
    return [
        _file(name, [rows.get(c) if c is not None else None for c in checkpoints], checkpoints)
        for name, rows in by_name.items()
    ]


def _load(session: Session, places: Sequence[tuple[int, int | None]]) -> list[list[Any]]:
    """Rows of each place. The latest step of every measure is looked up first, for all releases at once."""
    whole = sorted({release for release, step in places if step is None})
    exact = sorted({place for place in places if place[1] is not None})
    columns = (
        *_NAMES, col(Evaluation.release_id), col(Evaluation.step), col(Evaluation.value), col(Evaluation.special),
        col(Evaluation.stderr), col(Evaluation.by), col(Evaluation.id),
    )  # fmt: skip
    at = func.coalesce(col(Evaluation.step), -1)
    latest = (
        select(col(Evaluation.release_id), *_NAMES, func.max(at).label("latest"))
        .where(col(Evaluation.release_id).in_(whole))
        .group_by(col(Evaluation.release_id), *_NAMES)
        .subquery()
    )
    same = [col(Evaluation.release_id) == latest.c.release_id, at == latest.c.latest]
    same += [func.coalesce(name, _empty(name)) == func.coalesce(latest.c[name.key], _empty(name)) for name in _NAMES]
    newest = session.execute(select(*columns).join(latest, and_(*same)).order_by(col(Evaluation.id))).all()
    named = (
        or_(*(and_(col(Evaluation.release_id) == r, col(Evaluation.step) == s) for r, s in exact)) if exact else None
    )
    there = [] if named is None else session.execute(select(*columns).where(named).order_by(col(Evaluation.id))).all()
    return [
        [r for r in (newest if step is None else there) if r.release_id == release and step in (None, r.step)]
        for release, step in places
    ]


def _empty(name: Any) -> int | str:
    return -1 if name.key == "shots" else ""


def _results(rows: Sequence[Any]) -> dict[Key, ComparedResult]:
    found: dict[Key, ComparedResult] = {}
    for row in rows:
        key = (row.suite, row.task, row.metric, row.shots)
        times = found[key].results + 1 if key in found else 1
        found[key] = ComparedResult(row.step, row.value, row.special, row.stderr, row.by, times)
    return found


def _line(key: Key, results: list[ComparedResult | None]) -> ComparedEvaluation:
    better = better_direction(key[2])
    values = {
        k: r.value for k, r in enumerate(results) if r is not None and r.value is not None and math.isfinite(r.value)
    }
    best: list[int] = []
    if better is not None and len(values) > 1:
        top = (max if better == "higher" else min)(values.values())
        best = [k for k, value in values.items() if value == top]
    # Where all are equal nobody is best.
    return ComparedEvaluation(*key, results, better, best if len(best) < len(values) else [])


def _file(name: str, rows: list[Any], checkpoints: Sequence[int | None]) -> ComparedFile:
    return ComparedFile(
        name,
        [row.size if row else None for row in rows],
        [row.sha256 if row else None for row in rows],
        [row is not None for row in rows],
        _verdict([row for row, point in zip(rows, checkpoints, strict=True) if point is not None]),
    )


def _verdict(rows: list[Any]) -> str:
    if None in rows:
        return "missing"
    hashes, sizes = {row.sha256 for row in rows}, {row.size for row in rows}
    if None not in hashes:
        return "equal" if len(hashes) == 1 else "different"
    # Two known sizes or hashes that differ are proof enough; equal sizes prove nothing.
    return "different" if len(hashes - {None}) > 1 or len(sizes - {None}) > 1 else "unknown"
