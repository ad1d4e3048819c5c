"""Search among all published runs: a fixed number of queries, each bounded and led by an index.

Labels and chunks are found by the beginning of their name, one look-up in the index per run; the few
rows that a run has of series, configs and findings by any part of it.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, and_, case, cast, func, or_, select
from sqlmodel import Session, col

from portal.catalog.answers import SearchHit
from portal.catalog.hyperparameters import flatten, written
from portal.catalog.wishes import Wish
from portal.models import Checkpoint, CheckpointLabel, Chunk, Config, Event, File, Finding, MetricSeries, Release, Run

CONFIGS_READ = 40
"""Configs that are opened to see whether the name is a key of theirs."""
MESSAGE = 160
_AFTER_ALL = "\U0010ffff"


def has_run(session: Session, run: str) -> bool:
    """Whether a run of this name is published."""
    org, _, name = run.partition("/")
    statement = select(col(Run.id)).where(col(Run.org) == org, col(Run.name) == name, col(Run.version) > 0)
    return session.execute(statement).first() is not None


def find(session: Session, wish: Wish, most: int) -> dict[str, list[SearchHit]]:
    """Hits by kind, at most ``most`` of each."""
    return {
        "run": _runs(session, wish, most),
        "checkpoint": _labels(session, wish, most) + _at_step(session, wish, most),
        "chunk": _chunks(session, wish, most),
        "file": find_files(session, wish, most, col(File.release_id).in_(_current())),
        "series": _series(session, wish, most),
        "config": _configs(session, wish),
        "event": _events(session, wish, most),
        "finding": _findings(session, wish, most),
    }


def find_files(session: Session, wish: Wish, most: int, within: ColumnElement[bool]) -> list[SearchHit]:
    """Files whose sha256 begins so, with the checkpoint or chunk they belong to; no query without a hash."""
    if wish.sha256 is None:
        return []
    columns = (col(File.path), col(File.sha256), col(File.role), col(Checkpoint.step), col(Checkpoint.labels))
    statement = (
        _of_runs(File, *columns, col(Chunk.name))
        .join(Checkpoint, col(Checkpoint.id) == col(File.checkpoint_id), isouter=True)
        .join(Chunk, col(Chunk.id) == col(File.chunk_id), isouter=True)
        # Digits sort alike in every collation, and "g" comes after every one of them.
        .where(within, col(File.sha256) >= wish.sha256, col(File.sha256) < wish.sha256 + "g")
        .limit(most)
    )
    rows = session.execute(statement).all()
    hashes = {row.sha256 for row in rows}
    return [_file(row, exact=len(hashes) == 1 and len(rows) == 1) for row in rows]


def shortened(text: str, most: int = MESSAGE) -> str:
    """At most ``most`` characters, the cut marked."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def event_name(kind: str) -> str:
    """``nan_loss`` as people write it."""
    return kind.replace("_", " ")


def _file(row: Any, exact: bool) -> SearchHit:
    run = f"{row.org}/{row.run_name}"
    if row.name is not None:
        owner, key, of = "chunk", row.name, f"chunk {row.name}"
    elif row.labels is not None:
        owner, key = "checkpoint", str(row.step if row.step is not None else (row.labels or [""])[0])
        of = f"checkpoint {(row.labels or [f'of step {row.step}'])[0]}"
    else:
        owner, key, of = "", "", row.role
    return SearchHit("file", run, row.path, f"{of}, sha256 {row.sha256}", row.step, key, owner, exact)


def _runs(session: Session, wish: Wish, most: int) -> list[SearchHit]:
    name = col(Run.org) + "/" + col(Run.name)
    matching = or_(name.icontains(wish.text, autoescape=True), col(Release.title).icontains(wish.text, autoescape=True))
    statement = (
        select(col(Run.org), col(Run.name), col(Release.title))
        .join(Release, (col(Release.run_id) == col(Run.id)) & (col(Release.version) == col(Run.version)))
        .where(matching)
        .order_by(col(Run.org), col(Run.name))
        .limit(most)
    )
    wanted = wish.text.lower()
    return [
        SearchHit(
            "run", f"{org}/{n}", f"{org}/{n}", title if title != f"{org}/{n}" else "", exact=_named(org, n, wanted)
        )
        for org, n, title in session.execute(statement)
    ]


def _named(org: str, name: str, wanted: str) -> bool:
    return wanted in (name, f"{org}/{name}")


def _labels(session: Session, wish: Wish, most: int) -> list[SearchHit]:
    texts = list(
        dict.fromkeys([wish.text, wish.text.lower()] + ([f"step{wish.step}"] if wish.step is not None else []))
    )
    label = col(CheckpointLabel.label)
    statement = (
        _of_runs(CheckpointLabel, label, col(Checkpoint.step))
        .join(Checkpoint, col(Checkpoint.id) == col(CheckpointLabel.checkpoint_id))
        .where(col(CheckpointLabel.release_id).in_(_current()), or_(*(_begins(session, label, t) for t in texts)))
        .limit(most)
    )
    return [
        SearchHit(
            "checkpoint",
            f"{row.org}/{row.run_name}",
            row.label,
            f"state after step {row.step:,}" if row.step is not None else "merged, without a step",
            row.step,
            str(row.step) if row.step is not None else row.label,
            exact=row.label in texts,
        )
        for row in session.execute(statement)
    ]


def _at_step(session: Session, wish: Wish, most: int) -> list[SearchHit]:
    """Checkpoints of exactly that step that no label of the same number has already named."""
    if wish.step is None:
        return []
    statement = (
        _of_runs(Checkpoint, col(Checkpoint.labels))
        .where(col(Checkpoint.release_id).in_(_current()), col(Checkpoint.step) == wish.step)
        .where(col(Checkpoint.missing).is_(False))
        .limit(most)
    )
    step = str(wish.step)
    return [
        SearchHit(
            "checkpoint", f"{row.org}/{row.run_name}", f"step {wish.step:,}", ", ".join(row.labels), wish.step, step
        )
        for row in session.execute(statement)
        if not any(label.startswith((wish.text, f"step{step}")) for label in row.labels)
    ]


def _chunks(session: Session, wish: Wish, most: int) -> list[SearchHit]:
    name = col(Chunk.name)
    within = col(Chunk.release_id).in_(_current())
    statement = _of_runs(Chunk, name, col(Chunk.rows)).where(within, _begins(session, name, wish.text)).limit(most)
    return [
        SearchHit(
            "chunk",
            f"{row.org}/{row.run_name}",
            row.name,
            f"{row.rows:,} rows" if row.rows is not None else "rows not counted",
            key=row.name,
            exact=row.name == wish.text,
        )
        for row in session.execute(statement)
    ]


def _series(session: Session, wish: Wish, most: int) -> list[SearchHit]:
    name = col(MetricSeries.name)
    statement = (
        _of_runs(MetricSeries, name, col(MetricSeries.points), col(MetricSeries.unit))
        .where(name.icontains(wish.text, autoescape=True))
        .limit(most)
    )
    return [
        SearchHit(
            "series",
            f"{row.org}/{row.run_name}",
            row.name,
            f"{row.points:,} points" + (f", {row.unit}" if row.unit else ""),
            exact=row.name == wish.text,
        )
        for row in session.execute(statement)
    ]


def _configs(session: Session, wish: Wish) -> list[SearchHit]:
    last = wish.text.rpartition(".")[2]
    inside = cast(col(Config.values), Text).icontains(json.dumps(last)[1:-1], autoescape=True)
    statement = _of_runs(Config, col(Config.values), col(Config.first_step)).where(inside).limit(CONFIGS_READ)
    wanted = wish.text.casefold()
    found: dict[tuple[str, str], SearchHit] = {}
    for row in session.execute(statement):
        run = f"{row.org}/{row.run_name}"
        for name, value in flatten(row.values).items():
            if wanted in name.casefold():
                detail = f"{shortened(written(value))} from step {row.first_step:,}"
                hit = SearchHit("config", run, name, detail, row.first_step)
                found.setdefault((run, name), hit)
    return list(found.values())


def _events(session: Session, wish: Wish, most: int) -> list[SearchHit]:
    if not wish.events:
        return []
    statement = (
        _of_runs(Event, col(Event.kind), func.count().label("times"), func.min(col(Event.step)).label("first"))
        .where(col(Event.kind).in_(wish.events))
        .group_by(col(Run.org), col(Run.name), col(Event.kind))
        .order_by(col(Run.org), col(Run.name), col(Event.kind))
        .limit(most)
    )
    hits = []
    for row in session.execute(statement):
        times = "once" if row.times == 1 else f"{row.times:,} times"
        detail = times if row.first is None else f"{times}, first at step {row.first:,}"
        hits.append(SearchHit("event", f"{row.org}/{row.run_name}", event_name(row.kind), detail, row.first))
    return hits


def _findings(session: Session, wish: Wish, most: int) -> list[SearchHit]:
    columns = (col(Finding.key), col(Finding.code), col(Finding.severity), col(Finding.message), col(Finding.step))
    worst = case({"error": 0, "warning": 1}, value=col(Finding.severity), else_=2)
    texts = (col(Finding.code), col(Finding.message))
    statement = (
        _of_runs(Finding, *columns)
        .where(col(Finding.state) != "fixed", or_(*(t.icontains(wish.text, autoescape=True) for t in texts)))
        .order_by(worst, col(Finding.id))
        .limit(most)
    )
    return [
        SearchHit(
            "finding",
            f"{row.org}/{row.run_name}",
            f"{row.severity}: {row.code}",
            shortened(row.message),
            row.step,
            row.key,
        )
        for row in session.execute(statement)
    ]


def _of_runs(table: Any, *columns: Any) -> Select[Any]:
    """Columns of a table with the run each row belongs to, for the releases that are shown."""
    return (
        select(col(Run.org), col(Run.name).label("run_name"), *columns)
        .select_from(table)
        .join(Release, col(Release.id) == table.release_id)
        .join(Run, (col(Run.id) == col(Release.run_id)) & (col(Run.version) == col(Release.version)))
    )


def _current() -> Select[Any]:
    joined = (col(Release.run_id) == col(Run.id)) & (col(Release.version) == col(Run.version))
    return select(col(Release.id)).join(Run, joined)


def _begins(session: Session, column: Any, text: str) -> ColumnElement[bool]:
    """The column begins with the text, in the form that each database answers from an index."""
    if session.get_bind().dialect.name == "sqlite":
        return and_(column >= text, column < text + _AFTER_ALL)
    begins: ColumnElement[bool] = column.startswith(text, autoescape=True)
    return begins
