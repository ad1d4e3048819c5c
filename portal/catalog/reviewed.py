"""What people said of findings, as it is read with a release and met again by the scan of the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlmodel import Session, col, select

from portal.catalog.answers import FindingReviewView, FindingView
from portal.models import Finding, FindingReview, Release


def finding_views(session: Session, release_id: int, findings: Sequence[Finding]) -> list[FindingView]:
    """Findings of a release as answers show them, with their reviews; a finding's key is its id."""
    said = _reviews(session, release_id) if findings else {}
    return [
        FindingView(
            f.key, f.code, f.severity, f.message, f.step, dict(f.evidence), f.state, f.found_at, f.fixed_at,
            [review_view(row) for row in said.get(f.key, ())],
        )
        for f in findings
    ]  # fmt: skip


def known_explanations(session: Session, release_id: int) -> Mapping[str, str]:
    """Keys of a run's findings whose last review explained them, with what they said then.

    A finding of the next version that says the same is explained already.
    """
    last = {key: rows[-1] for key, rows in _reviews(session, release_id).items()}
    return {key: row.message for key, row in last.items() if row.state == "explained"}


def review_view(row: FindingReview) -> FindingReviewView:
    """A review as answers show it."""
    return FindingReviewView(row.state, row.note, row.by, row.at)


def _reviews(session: Session, release_id: int) -> dict[str, list[FindingReview]]:
    """Of a release's run, by key, the first first."""
    owner = select(Release.run_id).where(col(Release.id) == release_id).scalar_subquery()
    asked = select(FindingReview).where(col(FindingReview.run_id) == owner).order_by(col(FindingReview.id))
    found: dict[str, list[FindingReview]] = {}
    for row in session.exec(asked):
        found.setdefault(row.key, []).append(row)
    return found
