"""Whether anybody may read a run, or its organisation alone; changed by whoever may publish it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import Session, col, select

from portal.catalog.audit.writing import OPERATOR, put_on_record
from portal.catalog.record import lock_run, recording
from portal.catalog.release import load_facts
from portal.catalog.sight import list_hidden
from portal.database import Engine, open_session
from portal.errors import Conflict
from portal.models import Release, Run

PUBLIC, PRIVATE = "public", "private"
DERIVED = "derived"
"""The organisation of what jobs make: such runs go with the run that they were trained from."""


@dataclass(frozen=True)
class Visibility:
    """Who may read a run."""

    run: str
    visibility: str
    """``public`` or ``private``."""
    organisation: str
    """Whose tokens read it while it is private, and may change this."""
    closed: list[str]
    """Runs that jobs made of it and that became private with it."""


def find_owner(session: Session, run: str) -> str:
    """The organisation whose publishers decide who reads a run. RunNotFound."""
    facts = load_facts(session, run)
    organisation = run.partition("/")[0]
    if organisation != DERIVED:
        return organisation
    parent = facts.head.parent_run or ""
    return facts.private_to or parent.partition("/")[0] or organisation


def set_visibility(engine: Engine, run: str, visibility: str, by: str = OPERATOR) -> Visibility:
    """Make a run private or public; done already is done, and leaves no entry in the history. RunNotFound.

    Every answer kept of it is stale from then on. Conflict where a run that a job made is to be public while the run
    it was trained from is private: its name, its title and its data tell of that one.
    """
    with open_session(engine) as session:
        owner, parent = find_owner(session, run), load_facts(session, run).head.parent_run
    with recording(engine) as session:
        if visibility == PRIVATE:
            return Visibility(run, PRIVATE, owner, close_run(session, run, owner, by))
        if run.startswith(f"{DERIVED}/") and parent and list_hidden(session, {parent}):
            raise Conflict(
                f"{run} was trained from {parent}, which is private.", f"Make {parent} public first, or leave it so."
            )
        _set(session, run, None, by)
    return Visibility(run, PUBLIC, owner, [])


def close_run(session: Session, run: str, owner: str, by: str) -> list[str]:
    """Make a run private in the caller's transaction, with what jobs made of it, and of that; the names of those."""
    _set(session, run, owner, by)
    closed: dict[str, None] = {}
    waiting = [run]
    while waiting:
        waiting = [name for name in _derived(session, waiting) if name not in closed and name != run]
        closed |= dict.fromkeys(waiting)
    for name in closed:
        _set(session, name, owner, by)
    return sorted(closed)


def _derived(session: Session, parents: list[str]) -> list[str]:
    """Public runs that jobs made of these."""
    found = session.exec(
        select(Run.org, Run.name)
        .join(Release, (col(Release.run_id) == col(Run.id)) & (col(Release.version) == col(Run.version)))
        .where(Run.org == DERIVED, col(Release.parent_run).in_(parents), col(Run.private_to).is_(None))
    )
    return [f"{org}/{name}" for org, name in found]


def _set(session: Session, run: str, owner: str | None, by: str) -> None:
    run_id, _ = lock_run(session, run)
    before = session.exec(select(Run.private_to).where(Run.id == run_id)).one()
    if before == owner:
        return
    # A new revision: what was kept of it, or of others that name it, is stale.
    changed = update(Run).where(col(Run.id) == run_id)
    session.execute(changed.values(private_to=owner, revision=col(Run.revision) + 1))
    told = {"before": before, "after": owner}
    put_on_record(session, "run.made-private" if owner else "run.made-public", by, f"run:{run}", run, told)
