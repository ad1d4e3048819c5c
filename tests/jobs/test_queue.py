"""The queue on both databases: each job to one worker, the right one, in the right order."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.jobs.attempts import AttemptKey, Beat, beat, give_up, list_expired
from portal.catalog.jobs.labels import answered_by, read_labels, written_labels
from portal.catalog.jobs.listing import count_jobs
from portal.catalog.jobs.queue import claim, list_wanted
from portal.errors import StaleLease
from portal.settings import Settings
from tests.jobs.claimers import claim_all
from tests.jobs.enqueued import Clock, put, rules_at, taken, worker


def test_six_processes_claim_every_job_once(engine: Engine, settings: Settings) -> None:
    rules = rules_at(Clock())
    jobs = [put(engine, rules, by=f"p{k % 7}", priority=k % 3) for k in range(200)]
    workers = [(worker(engine, rules, f"w{k}").id, f"w{k}") for k in range(6)]
    claims = claim_all(settings, workers)
    assert [job for job, _, _ in claims.jobs] == sorted(jobs)
    assert {(attempt, fence) for _, attempt, fence in claims.jobs} == {(1, 1)}
    with Session(engine) as session:
        assert count_jobs(session)["leased"] == 200


def test_nobody_runs_more_than_their_share(engine: Engine, settings: Settings) -> None:
    clock = Clock()
    rules = rules_at(clock, per_person=3)
    for k in range(40):
        put(engine, rules, by="ada" if k < 30 else "bob")
    workers = [(worker(engine, rules, f"w{k}").id, f"w{k}") for k in range(3)]
    claims = claim_all(settings, workers, rules)
    assert len([job for job, _, _ in claims.jobs if job <= 30]) == 3
    assert len([job for job, _, _ in claims.jobs if job > 30]) == 3
    w = worker(engine, rules, "late")
    assert claim(engine, w.offer(), rules) is None
    assert claim(engine, w.offer(), rules_at(clock)) is not None


def test_the_most_urgent_job_that_fits_comes_first(engine: Engine) -> None:
    clock = Clock()
    rules = rules_at(clock)
    plain = put(engine, rules)
    urgent = put(engine, rules, priority=5)
    labelled = put(engine, rules, priority=9, labels={"site": "a", "gpu": "h200"})
    large = put(engine, rules, priority=9, resources={"gpus": 4})
    box, cluster = (
        worker(engine, rules, "box"),
        worker(engine, rules, "cluster", {"site": "a", "gpu": "h200", "x": "1"}),
    )
    assert claim(engine, box.offer(), rules_at(clock, per_person=1)).job == urgent  # type: ignore[union-attr]
    with Session(engine) as session:
        assert {(w.gpus, w.needs, w.jobs) for w in list_wanted(session, rules)} == {
            (0, "", 1),
            (0, "gpu=h200\nsite=a", 1),
            (4, "", 1),
        }
    assert taken(engine, rules, cluster).job == labelled
    assert claim(engine, cluster.offer(4), rules).job == large  # type: ignore[union-attr]
    assert taken(engine, rules, box).job == plain
    assert claim(engine, cluster.offer(8), rules) is None


def test_a_lease_that_ran_out_goes_to_another_and_the_zombie_is_refused(engine: Engine) -> None:
    clock = Clock()
    rules = rules_at(clock)
    put(engine, rules)
    first, second = worker(engine, rules, "w1"), worker(engine, rules, "w2")
    lease = taken(engine, rules, first)
    old = AttemptKey(lease.job, lease.attempt, lease.fence)
    clock.pass_seconds(89)
    with Session(engine) as session:
        assert list_expired(session, rules) == []
    clock.pass_seconds(2)
    with Session(engine) as session:
        assert list_expired(session, rules) == [old]
    beat(engine, old, Beat("running", 302), rules)
    assert give_up(engine, old, rules) is None, "heard of after all"
    clock.pass_seconds(91)
    assert give_up(engine, old, rules) == "queued"
    assert give_up(engine, old, rules) is None
    assert claim(engine, second.offer(), rules) is None, "not before its pause is over"
    clock.pass_seconds(11)
    new = taken(engine, rules, second)
    assert (new.attempt, new.fence > lease.fence) == (2, True)
    with pytest.raises(StaleLease):
        beat(engine, old, Beat("running", 303), rules)
    beat(engine, AttemptKey(new.job, 2, new.fence), Beat("running", 302), rules)


def test_labels_are_written_in_one_way() -> None:
    assert written_labels({"b": "2", "a": "1"}) == written_labels({"a": "1", "b": "2"}) == "a=1\nb=2"
    assert read_labels("a=1\nb=x=y") == {"a": "1", "b": "x=y"}
    assert set(answered_by({"b": "2", "a": "1"})) == {"", "a=1", "b=2", "a=1\nb=2"}
    assert len(answered_by({str(k): "" for k in range(10)})) == 1024
