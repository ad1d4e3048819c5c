"""Any order of leases, silences, completions, cancellations and retries: one accepted result at most, and none is lost."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.jobs.attempts import (
    AttemptKey,
    Beat,
    Completion,
    accept,
    beat,
    end,
    find_completed,
    give_up,
    keep_output,
)
from portal.catalog.jobs.finishing import Result, succeed
from portal.catalog.jobs.listing import get_job
from portal.catalog.jobs.queue import claim
from portal.catalog.jobs.rules import (
    BAD_INPUT,
    ENDED,
    LIVE,
    MAX_STALLS,
    JobRules,
    Standing,
    backoff_ms,
    follow,
)
from portal.catalog.jobs.told import read_told
from portal.catalog.jobs.wishes import cancel, retry
from portal.database import create_database_engine
from portal.errors import Conflict
from portal.settings import Settings
from tests.jobs.enqueued import Clock, put, worker

RULES = JobRules()


def standing(**changes: Any) -> Standing:
    return Standing(**{"failures": 0, "stalls": 0, "cancelling": False, "progressed": False, **changes})


@pytest.mark.parametrize(
    ("outcome", "given", "more", "state"),
    [
        ("lost", {}, {}, "queued"),
        ("lost", {"failures": 2}, {}, "failed"),
        ("lost", {"cancelling": True}, {}, "cancelled"),
        ("preempted", {"failures": 2}, {}, "queued"),
        ("preempted", {"failures": 99, "stalls": 2, "progressed": True}, {}, "queued"),
        ("preempted", {"stalls": MAX_STALLS - 1}, {}, "failed"),
        ("preempted", {"cancelling": True}, {}, "cancelled"),
        ("cancelled", {}, {}, "queued"),
        ("failed", {}, {}, "failed"),
        ("failed", {}, {"retryable": True}, "queued"),
        ("failed", {}, {"retryable": True, "exit_code": BAD_INPUT}, "failed"),
        ("failed", {"failures": 2}, {"retryable": True}, "failed"),
        ("failed", {"cancelling": True}, {}, "cancelled"),
    ],
)
def test_what_follows_an_attempt(outcome: str, given: Any, more: Any, state: str) -> None:
    then = follow(outcome, standing(**given), RULES, **more)
    assert then.state == state
    assert then.message


def test_pauses_double_up_to_ten_minutes() -> None:
    assert [backoff_ms(n, RULES) / 1000 for n in (1, 2, 3, 7, 100)] == [10, 20, 40, 600, 600]


class Machine(RuleBasedStateMachine):
    """One job, two workers, any number of zombies."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="jobs-"))
        shutil.copyfile(self.template, self.folder / "portal.sqlite3")
        self.engine: Engine = create_database_engine(Settings(data=self.folder))
        self.clock = Clock()
        self.rules = JobRules(clock=self.clock)
        self.leases: list[AttemptKey] = []
        self.accepted: AttemptKey | None = None
        self.cancelled = False
        self.seen_states: list[str] = []

    def teardown(self) -> None:
        self.engine.dispose()
        shutil.rmtree(self.folder)

    @initialize()
    def submit(self) -> None:
        self.job = put(self.engine, self.rules)
        self.worker = worker(self.engine, self.rules)

    def look(self) -> Any:
        with Session(self.engine) as session:
            return get_job(session, self.job)

    @rule(seconds=st.sampled_from([1, 15, 60, 100, 700]))
    def pass_time(self, seconds: int) -> None:
        self.clock.pass_seconds(seconds)

    @rule()
    def lease(self) -> None:
        state = self.look().state
        found = claim(self.engine, self.worker.offer(), self.rules)
        if found is not None:
            assert state == "queued"
            assert all(found.fence > key.fence for key in self.leases)
            self.leases.append(AttemptKey(found.job, found.attempt, found.fence))

    def owns(self, key: AttemptKey) -> bool:
        job = self.look()
        return key == self.leases[-1] and job.state in LIVE and job.attempts == key.number

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), phase=st.sampled_from(["preparing", "running", "publishing"]), step=st.integers(301, 350))
    def heartbeat(self, data: Any, phase: str, step: int) -> None:
        key = data.draw(st.sampled_from(self.leases))
        owns = self.owns(key)
        try:
            told = beat(self.engine, key, Beat(phase, step), self.rules)
        except Conflict:
            assert not owns
        else:
            assert owns
            assert (told.cancel == "no") == (not self.cancelled or self.accepted is not None)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), step=st.integers(301, 349))
    def hand_in(self, data: Any, step: int) -> None:
        key = data.draw(st.sampled_from(self.leases))
        owns = self.owns(key) and self.accepted is None
        before = self.look().resume_step
        try:
            resume = keep_output(self.engine, key, step, "partial", [], self.rules)
        except Conflict:
            assert not owns
        else:
            assert owns
            assert resume == max(step, before or step)

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["succeeded", "failed", "preempted", "cancelled"]),
        retryable=st.booleans(),
    )
    def complete(self, data: Any, outcome: str, retryable: bool) -> None:
        key = data.draw(st.sampled_from(self.leases))
        owns = self.owns(key) and self.accepted is None
        said = Completion(outcome, 0, retryable, "", {}, None, f"{outcome}{retryable}")
        try:
            with Session(self.engine) as session:
                if find_completed(session, key, said.digest) is not None:
                    return
            if outcome == "succeeded":
                accept(self.engine, key, said, self.rules)
            else:
                end(self.engine, key, outcome, said, self.rules)
        except Conflict:
            assert not owns
        else:
            assert owns
            if outcome == "succeeded":
                self.accepted = key
            self.cancelled = self.cancelled and self.look().state in LIVE

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def reap(self, data: Any) -> None:
        give_up(self.engine, data.draw(st.sampled_from(self.leases)), self.rules)
        self.cancelled = self.cancelled and self.look().state in LIVE

    @rule(force=st.booleans())
    def cancel(self, force: bool) -> None:
        before = self.look().state
        try:
            wish = cancel(self.engine, self.job, "ada", self.rules, force)
        except Conflict:
            assert before in ENDED or self.accepted is not None
        else:
            assert self.accepted is None
            self.cancelled = wish.state in LIVE

    @rule()
    def retry(self) -> None:
        before = self.look().state
        try:
            retry(self.engine, self.job, "ada", self.rules)
        except Conflict:
            assert before not in ("failed", "cancelled")
        else:
            assert before in ("failed", "cancelled")
            self.cancelled = False

    @rule()
    def publish(self) -> None:
        state = succeed(self.engine, self.job, Result("derived/x", 1), self.rules)
        assert (state == "succeeded") == (self.accepted is not None)

    @invariant()
    def success_is_never_lost_and_never_doubled(self) -> None:
        if not hasattr(self, "job"):
            return
        job = self.look()
        winners = [a.number for a in job.attempt_list if a.outcome == "succeeded"]
        if self.accepted is None:
            assert winners == []
            assert job.state != "succeeded"
        else:
            assert winners == [self.accepted.number]
            assert job.state in ("publishing", "succeeded")
        running = [a for a in job.attempt_list if a.outcome is None]
        assert len(running) <= 1
        assert bool(running) == (job.state in LIVE and self.accepted is None)

    @invariant()
    def what_was_told_is_numbered_without_doubles(self) -> None:
        if not hasattr(self, "job"):
            return
        after, numbers = 0, []
        with Session(self.engine) as session:
            more = True
            while more:
                found, after, more = read_told(session, self.job, after)
                numbers += [t.number for t in found]
        assert numbers == sorted(set(numbers))


def test_any_order_of_events(sqlite_template: Path) -> None:
    Machine.template = sqlite_template
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
