"""Reviews of findings: a person explains one, or opens it again, with a note; who said what and when is kept."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import update
from sqlmodel import Session, col, select

from portal.catalog.accounts import Caller
from portal.catalog.answers import FindingReviewView, FindingView
from portal.catalog.audit.writing import put_on_record
from portal.catalog.release import load_facts
from portal.catalog.reviewed import review_view
from portal.catalog.revisions import bump_revision
from portal.catalog.rows import storable
from portal.database import Engine, open_session
from portal.errors import BadRequest, Conflict, NotFound
from portal.models import Finding, FindingReview, Release, Run

REVIEWED = ("explained", "open")
"""States that a person gives; only a scan withdraws a finding (``fixed``)."""
MAX_NOTE = 2000


def get_finding(session: Session, run: str, key: str) -> FindingView:
    """One finding of the current release with its reviews. NotFound, RunNotFound."""
    found = next((f for f in load_facts(session, run).findings if f.id == key), None)
    if found is None:
        raise _unknown(run, key)
    return found


def review_finding(engine: Engine, caller: Caller, run: str, key: str, state: str, note: str) -> FindingReviewView:
    """Explain an open finding, or open an explained one again; with what is said, and by whom, for good.

    Raises BadRequest for another state or no note, Forbidden for a run the caller is not good for, NotFound, and
    Conflict where the finding has that state already, was withdrawn, or somebody else was faster.
    """
    caller.check_organisation(run)
    note = storable(note.replace("\r\n", "\n").strip())
    if state not in REVIEWED:
        raise BadRequest(
            f"{state[:40]!r} is no state a review gives.", "Send `explained` or `open`.", parameter="state"
        )
    if not 0 < len(note) <= MAX_NOTE:
        raise BadRequest(f"A review says why, in 1 to {MAX_NOTE:,} characters.", "Write a note.", parameter="note")
    before = "open" if state == "explained" else "explained"
    with open_session(engine) as session:
        current = _current(run)
        # The change itself tells whether it was possible, so that of two reviewers at once one is told.
        changed = session.execute(
            update(Finding)
            .where(col(Finding.release_id) == current, col(Finding.key) == key, col(Finding.state) == before)
            .values(state=state)
            .returning(col(Finding.release_id), col(Finding.message))
        ).first()
        if changed is None:
            raise _why_not(session, run, key)
        release_id, message = changed
        owner = session.exec(select(Release.run_id).where(Release.id == release_id)).one()
        row = FindingReview(
            run_id=owner, key=key, state=state, note=note, message=message, by=caller.name, at=datetime.now(UTC)
        )
        session.add(row)
        told = {"before": before, "after": state, "note": note}
        put_on_record(session, "finding.reviewed", caller.name, f"finding:{key}", run, told)
        bump_revision(session, release_id)
        session.commit()
        return review_view(row)


def _current(run: str) -> object:
    """The id of the run's current release, as a question inside another one."""
    org, _, name = run.partition("/")
    joined = select(col(Release.id)).join(Run, col(Run.id) == col(Release.run_id))
    return joined.where(
        col(Run.org) == org, col(Run.name) == name, col(Run.version) == col(Release.version)
    ).scalar_subquery()


def _why_not(session: Session, run: str, key: str) -> Conflict | NotFound:
    found = get_finding(session, run, key)
    if found.state == "fixed":
        return Conflict("This finding was withdrawn: the portal does not find it any more.", "Nothing is left to say.")
    return Conflict(f"This finding is {found.state} already.", "Look at it again.")


def _unknown(run: str, key: str) -> NotFound:
    return NotFound(f"{run} has no finding {key[:100]}.", f"See /runs/{run}/findings for those it has.")
