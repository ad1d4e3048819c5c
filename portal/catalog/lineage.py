"""Where a run comes from and what came of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, select
from sqlmodel import Session, col

from portal.catalog.answers import DerivedRun, Lineage
from portal.catalog.release import load_facts
from portal.catalog.sight import current_sight, list_hidden
from portal.catalog.tombstones import newest_withdrawn
from portal.models import Release, Run


def get_lineage(session: Session, run: str) -> Lineage:
    """Ancestors nearest first, and direct descendants by name, in a constant number of queries.

    The chain of ancestors ends before a run that is not seen.
    """
    facts = load_facts(session, run)
    statement = select(
        col(Run.org), col(Run.name), col(Release.kind), col(Release.parent_run), col(Release.parent_step)
    ).join(Release, (col(Release.run_id) == col(Run.id)) & _shown_or_withdrawn())
    versions = select(col(Run.org), col(Run.name), col(Run.version))
    known = {f"{org}/{name}": bool(version) for org, name, version in session.execute(versions)}
    sight = current_sight()
    hidden = {} if sight.everything else list_hidden(session)
    descendants = session.execute(
        statement.where(col(Release.parent_run).is_not(None)).order_by(col(Run.org), col(Run.name))
    ).all()
    origin = {
        f"{org}/{name}": (parent, step)
        for org, name, _, parent, step in descendants
        if sight.sees(parent, hidden.get(parent))
    }
    children = [
        {"run": f"{org}/{name}", "kind": kind, "step": step, "withdrawn": not known.get(f"{org}/{name}", True)}
        for org, name, kind, parent, step in descendants
        if parent == run
    ]
    return Lineage(run, _ancestors(facts.run, origin, known), children)


def _shown_or_withdrawn() -> ColumnElement[bool]:
    """The release of a run that tells where it came from: the current one, or the last where all were withdrawn."""
    return (col(Release.version) == col(Run.version)) | col(Release.id).in_(newest_withdrawn())


def _ancestors(run: str, origin: dict[str, tuple[str, int | None]], known: dict[str, bool]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    seen = {run}
    while run in origin:
        run, step = origin[run]
        found.append({"run": run, "step": step, "known": known.get(run, False), "withdrawn": not known.get(run, True)})
        # Two manifests may name each other as parent; the chain ends where it would repeat.
        if run in seen:
            break
        seen.add(run)
    return found


def load_derived(session: Session, run: str, step: int) -> list[DerivedRun]:
    """Published runs that started from the checkpoint of this step, by name; one query."""
    statement = (
        select(col(Run.org), col(Run.name), col(Release.kind), col(Release.title))
        .join(Release, (col(Release.run_id) == col(Run.id)) & (col(Release.version) == col(Run.version)))
        .where(col(Release.parent_run) == run, col(Release.parent_step) == step)
        .order_by(col(Run.org), col(Run.name))
    )
    return [DerivedRun(f"{org}/{name}", kind, title) for org, name, kind, title in session.execute(statement)]
