"""Jobs from a checkpoint whose version is withdrawn: those that wait end and say why, and nobody is given one."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from portal.catalog.audit.listing import list_entries
from portal.catalog.jobs.attempts import AttemptKey, Beat, beat, give_up, list_expired
from portal.catalog.jobs.listing import get_job
from portal.catalog.jobs.queue import claim, list_wanted
from portal.catalog.jobs.rules import CANCELLED, QUEUED
from portal.catalog.jobs.told import read_told
from portal.catalog.jobs.wishes import retry
from portal.catalog.withdrawals import withdraw
from portal.database import open_session
from portal.errors import Withdrawn
from portal.settings import Settings
from tests.builders import SMALL, record, small_run
from tests.jobs.enqueued import Clock, put, rules_at, taken, worker

RUN = "lab/small"


def base(version: int) -> dict[str, object]:
    return {"run": RUN, "version": version, "step": 300, "files": []}


@pytest.fixture
def two_versions(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    small = small_run(engine, settings, tmp_path / "release")
    record(engine, settings, SMALL | {"run": RUN, "title": "Better"}, small.folder)


def test_jobs_that_wait_end_with_the_reason(engine: Engine, two_versions: None) -> None:
    rules = rules_at(Clock())
    first = put(engine, rules, base=base(1))
    box = worker(engine, rules)
    lease = taken(engine, rules, box)
    waits, other, foreign = put(engine, rules, base=base(1)), put(engine, rules, base=base(2)), put(engine, rules)
    done = withdraw(engine, RUN, "ada", "Wrong weights.", 1)
    assert (done.jobs.ended, done.jobs.running) == ((waits,), (first,))
    assert withdraw(engine, RUN, "ada", "Again.", 1).jobs.ended == ()
    with open_session(engine) as session:
        ended, goes_on = get_job(session, waits), get_job(session, first)
        assert (ended.state, goes_on.state) == (CANCELLED, "leased")
        assert "withdrawn" in ended.message
        assert "by ada: Wrong weights. Version 2 is the current one." in ended.message
        assert ended.ended_at is not None
        told = read_told(session, first, 0)[0][-1]
        assert (told.kind, "Wrong weights." in told.data["message"]) == ("note", True)
        assert read_told(session, waits, 0)[0][-1].data["state"] == CANCELLED
        entries = list_entries(session, None).items
    assert [(e.action, e.actor, e.object) for e in entries[:2]] == [
        ("job.cancelled", "ada", f"job:{waits}"),
        ("run.withdrawn", "ada", f"run:{RUN}"),
    ]
    with pytest.raises(Withdrawn, match="Wrong weights"):
        retry(engine, waits, "ada", rules)
    key = AttemptKey(first, lease.attempt, lease.fence)
    assert beat(engine, key, Beat("running", 301), rules).cancel == "no"
    assert {taken(engine, rules, box).job, taken(engine, rules, box).job} == {other, foreign}


def test_one_that_comes_back_into_the_queue_is_not_leased_again(engine: Engine, two_versions: None) -> None:
    """Its worker is lost after the withdrawal; another one was submitted while the version was being withdrawn."""
    clock = Clock()
    rules = rules_at(clock)
    lost = put(engine, rules, base=base(1))
    box = worker(engine, rules)
    taken(engine, rules, box)
    assert withdraw(engine, RUN, "ada", "Wrong weights.").jobs.running == (lost,)
    late = put(engine, rules, base=base(2))
    clock.pass_seconds(3600)
    with open_session(engine) as session:
        (key,) = list_expired(session, rules)
    assert key.job == lost
    assert give_up(engine, key, rules) == QUEUED
    clock.pass_seconds(3600)
    with open_session(engine) as session:
        assert get_job(session, lost).state == QUEUED
        assert list_wanted(session, rules)
    assert claim(engine, box.offer(), rules) is None
    with open_session(engine) as session:
        for job, attempts in ((lost, 1), (late, 0)):
            found = get_job(session, job)
            assert (found.state, found.attempts, len(found.attempt_list)) == (CANCELLED, attempts, attempts)
            assert "by ada: Wrong weights." in found.message
        assert not list_wanted(session, rules)
