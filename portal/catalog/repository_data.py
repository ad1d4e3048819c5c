"""The data of a run as a repository: all chunks, or the rows of one step."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import orjson
import pyarrow as pa
from sqlmodel import Session, col

from portal.catalog.answers import DataAtStep
from portal.catalog.commits import make_commit
from portal.catalog.facts import OrderFact, ReleaseFacts
from portal.catalog.files import FileRow, load_files
from portal.catalog.repository_cards import data_card, step_card
from portal.catalog.repository_files import RepoFile, canonical, chunk_files, in_order, loadable, made_file
from portal.catalog.steps import data_at, order_at
from portal.errors import OrderUnknown, RevisionNotFound, Unavailable
from portal.models import File
from portal.settings import Settings

_CARD = "README.md"


def chunks_of(session: Session, facts: ReleaseFacts) -> tuple[RepoFile, ...]:
    """Every file of every chunk as released, each once, with a card that says how they load; and the files that hold
    the order, so that whoever takes the data from here can tell which step read what."""
    if ("data",) not in facts.kept:
        found, orders = chunk_files(_chunk_rows(session, facts)), chunk_files(_order_rows(facts)).files
        paths = loadable(found.files)
        card = made_file(_CARD, data_card(facts, paths, len(found.files) - len(paths), found.unknown))
        facts.kept["data",] = in_order([card, *(f for f in (*found.files, *orders) if f.path != _CARD)])
    files: tuple[RepoFile, ...] = facts.kept["data",]
    return files


def rows_of_step(
    session: Session, facts: ReleaseFacts, step: int, settings: Settings | None = None
) -> tuple[str, tuple[RepoFile, ...]]:
    """Commit and files of what one step read: a card, and a parquet file that is written when it is asked for.

    OrderUnknown or Unavailable with the reason where the rows cannot be named or read here. The commit follows from
    the digests of all chunks of the order and from the rule, so it is known before any row is read.
    """
    data, order = data_at(facts, settings, step), order_at(facts, step)
    _refuse_unreadable(facts, step, data, order)
    if data.elsewhere and any(f.sha256 is None for name in data.chunks for f in facts.elsewhere.get(name, ())):
        raise RevisionNotFound(
            f"The data of {facts.run} has no revision step-{step}: its files have no sha256 that its commit could "
            "stand for.",
            "State their sha256 in the manifest, or ask for the step's tokens.",
        )
    path = step_path(step)
    card = made_file(_CARD, step_card(facts, step, data, path))
    about = {"step": step, "order": _order_digest(session, facts, order), "rows": data.rows, "writer": pa.__version__}
    commit = make_commit(canonical(facts.run, "datasets", [card], about), step)
    return commit, in_order([card, RepoFile(path, None, None, step=step)])


def step_commits(session: Session, facts: ReleaseFacts, settings: Settings | None = None) -> dict[int, str]:
    """Commits of the data that the steps of released checkpoints read, where it can be read here."""
    if ("step-commits",) not in facts.kept:
        found: dict[int, str] = {}
        for step in dict.fromkeys(facts.released_steps):
            try:
                found[step] = rows_of_step(session, facts, step, settings)[0] if step else ""
            except (OrderUnknown, Unavailable, RevisionNotFound):
                continue
        facts.kept["step-commits",] = {step: commit for step, commit in found.items() if commit}
    commits: dict[int, str] = facts.kept["step-commits",]
    return commits


def step_path(step: int) -> str:
    """Where the rows of a step lie in their revision."""
    return f"data/step-{step}.parquet"


def _refuse_unreadable(facts: ReleaseFacts, step: int, data: DataAtStep, order: OrderFact | None) -> None:
    if order is None or not data.rows or not data.readable:
        reason = data.reason or f"What step {step} read is not known."
        raise RevisionNotFound(
            f"The data of {facts.run} has no revision step-{step}. {reason}", "Revision main lists the released files."
        )


def _order_digest(session: Session, facts: ReleaseFacts, order: OrderFact | None) -> str:
    """What decides which rows a step of this order reads: the rule, and the bytes it is applied to."""
    if order is None:
        return ""
    key = ("order", str(order.id))
    if key not in facts.kept:
        wanted = {facts.chunks[name].id for name in order.entry.chunks}
        files = [[r.path, r.size, r.sha256] for r in _chunk_rows(session, facts) if r.chunk_id in wanted]
        index = facts.loose_file(order.entry.file.path) if order.entry.file else None
        sizes = [[s.first_step, s.last_step, s.rows_per_step] for s in facts.stages]
        rule = asdict(order.entry) | {"where": ""}
        sources = [facts.chunks[name].row.sources for name in order.entry.chunks]
        body = orjson.dumps([rule, files, index.sha256 if index else None, sizes, sources])
        facts.kept[key] = hashlib.sha256(body).hexdigest()
    digest: str = facts.kept[key]
    return digest


def _order_rows(facts: ReleaseFacts) -> list[FileRow]:
    rows = [facts.loose_file(order.entry.file.path) for order in facts.orders.all if order.entry.file]
    return list({row.id: row for row in rows if row is not None}.values())


def _chunk_rows(session: Session, facts: ReleaseFacts) -> list[FileRow]:
    if ("chunk-files",) not in facts.kept:
        facts.kept["chunk-files",] = load_files(session, facts.head.id, col(File.chunk_id).is_not(None))
    rows: list[FileRow] = facts.kept["chunk-files",]
    return rows
