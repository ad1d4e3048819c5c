"""Reviews of findings: by whom, when and why; kept for the run's next version, and apart from what scans withdraw."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from portal.catalog.accounts import Caller
from portal.catalog.answers import FoundFinding
from portal.catalog.findings import FindingFilter, list_findings
from portal.catalog.record import finding_key, record_findings, recording
from portal.catalog.reviews import MAX_NOTE, get_finding, review_finding
from portal.catalog.runs import get_run
from portal.database import open_session
from portal.errors import BadRequest, Conflict, Forbidden, NotFound, RunNotFound
from portal.settings import Settings
from tests.builders import record

RUN = "lab/f"
REVIEWER = Caller(7, "grace", "reviewer")
GAP = FoundFinding("gap", "warning", "A step is missing.", 30)
EQUAL = FoundFinding("equal-weights", "error", "Equal at 5.", 5)


@pytest.fixture
def release(engine: Engine, settings: Settings) -> int:
    return record(engine, settings, {"run": RUN, "training": {"last_step": 100}}, findings=[GAP, EQUAL])


def test_a_finding_is_explained_and_opened_again(engine: Engine, release: int) -> None:
    key = finding_key(GAP)
    with open_session(engine) as session:
        assert get_run(session, RUN).summary.findings.warning == 1
    said = review_finding(engine, REVIEWER, RUN, key, "explained", "  Restarted\0 there. ")
    assert (said.state, said.note, said.by) == ("explained", "Restarted\u2400 there.", "grace")
    with open_session(engine) as session:
        found = get_finding(session, RUN, key)
        assert (found.state, [r.note for r in found.reviews]) == ("explained", ["Restarted\u2400 there."])
        assert get_run(session, RUN).summary.findings.warning == 0, "Explained findings are not counted as open."
        assert list_findings(session, RUN, wanted=FindingFilter(state="explained")).items == [found]
    with pytest.raises(Conflict, match="explained already"):
        review_finding(engine, REVIEWER, RUN, key, "explained", "Again.")
    review_finding(engine, replace(REVIEWER, name="ada"), RUN, key, "open", "Not there.")
    with open_session(engine) as session:
        found = get_finding(session, RUN, key)
        assert (found.state, [(r.state, r.by) for r in found.reviews]) == (
            "open",
            [("explained", "grace"), ("open", "ada")],
        )


def test_scans_and_reviews_do_not_undo_each_other(engine: Engine, release: int) -> None:
    review_finding(engine, REVIEWER, RUN, finding_key(GAP), "explained", "Restarted there.")
    with recording(engine) as session:
        record_findings(session, release, [GAP])
    with open_session(engine) as session:
        assert get_finding(session, RUN, finding_key(GAP)).state == "explained"
        assert get_finding(session, RUN, finding_key(EQUAL)).state == "fixed"
    with pytest.raises(Conflict, match="withdrawn"):
        review_finding(engine, REVIEWER, RUN, finding_key(EQUAL), "explained", "So what.")
    review_finding(engine, REVIEWER, RUN, finding_key(GAP), "open", "It is not.")
    with recording(engine) as session:
        record_findings(session, release, [EQUAL])
    with open_session(engine) as session:
        gone = get_finding(session, RUN, finding_key(GAP))
        assert (gone.state, len(gone.reviews)) == ("fixed", 2)
        assert get_finding(session, RUN, finding_key(EQUAL)).state == "open"


def test_an_explanation_holds_for_the_next_version_while_it_says_the_same(
    engine: Engine, settings: Settings, release: int
) -> None:
    review_finding(engine, REVIEWER, RUN, finding_key(GAP), "explained", "Restarted there.")
    review_finding(engine, REVIEWER, RUN, finding_key(EQUAL), "explained", "Saved twice.")
    worse = replace(EQUAL, message="Equal at 5 and at 6.")
    record(engine, settings, {"run": RUN, "training": {"last_step": 101}}, findings=[GAP, worse])
    with open_session(engine) as session:
        assert get_finding(session, RUN, finding_key(GAP)).state == "explained"
        found = get_finding(session, RUN, finding_key(EQUAL))
        assert (found.state, found.reviews[0].note) == ("open", "Saved twice.")


def test_what_cannot_be_reviewed_is_refused(engine: Engine, release: int) -> None:
    key = finding_key(GAP)
    for state, note in (("fixed", "x"), ("", "x"), ("explained", " "), ("explained", "x" * (MAX_NOTE + 1))):
        with pytest.raises(BadRequest):
            review_finding(engine, REVIEWER, RUN, key, state, note)
    with pytest.raises(Forbidden):
        review_finding(engine, replace(REVIEWER, organisation="other"), RUN, key, "explained", "x")
    with pytest.raises(Forbidden):
        review_finding(engine, replace(REVIEWER, runs=("lab/other",)), RUN, key, "explained", "x")
    with pytest.raises(NotFound):
        review_finding(engine, REVIEWER, RUN, "gap-nope", "explained", "x")
    with pytest.raises(RunNotFound):
        review_finding(engine, REVIEWER, "lab/nope", key, "explained", "x")
    with pytest.raises(Conflict, match="open already"):
        review_finding(engine, REVIEWER, RUN, key, "open", "x")
