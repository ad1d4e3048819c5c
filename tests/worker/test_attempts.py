"""Whole attempts on a fake portal, with direct and with relay staging: what is shipped, and how each end is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.worker.ending import judge
from portal.worker.executors.identity import kill_all, processes_of
from portal.worker.supervision import OVERTIME
from tests.worker.benches import Bench, wait_for
from tests.worker.fake_portal import FakePortal, digest


@pytest.fixture(params=["direct", "relay"])
def bench(request: pytest.FixtureRequest, portal: FakePortal, tmp_path: Path) -> Iterator[Bench]:
    """A worker of either staging."""
    made = Bench(portal, tmp_path, request.param)
    yield made
    made.clean_up()
    kill_all(made.spool(1))
    kill_all(made.spool(2))


def test_a_job_is_run_and_everything_is_handed_in(bench: Bench) -> None:
    bench.portal.offer()
    assert bench.run() == 0
    said = bench.portal.attempts[1]
    assert said.ended is not None
    assert said.ended["outcome"] == "succeeded"
    assert said.ended["exit_code"] == 0
    assert said.ended["environment"]["packages"] == {"torch": "none"}
    assert {step: said.points[step, "loss"] for step in range(1, 11)} == bench.portal.expected
    assert said.kinds == {4: "partial", 8: "partial", 10: "final"}
    assert {f["path"]: f["role"] for f in said.outputs[10]} == {
        "model.safetensors": "weights",
        "trainer_state.json": "data_position",
    }
    assert bytes(said.log).decode().splitlines()[0] == "trainer begins"
    assert said.log.endswith(b"succeeded\n")
    assert said.ended["log_sha256"] == digest(bytes(said.log))
    assert said.beats
    assert set(said.phases) <= {"preparing", "engine_pending", "running", "publishing"}
    assert not bench.spool().exists(), "nothing is kept that the portal has"


def test_files_are_fetched_once_for_all_attempts(bench: Bench) -> None:
    bench.portal.offer()
    bench.run()
    before = dict(bench.portal.downloads)
    bench.portal.offer(2)
    assert bench.run() == 0
    assert bench.portal.attempts[2].ended["outcome"] == "succeeded"
    assert bench.portal.downloads == before


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [
        ({"exit_at": {"5": 7}}, 7, "step 5 goes wrong"),
        ({"exit_at": {"5": 65}}, 65, "step 5 goes wrong"),
        ({"exit_at": {"5": 69}}, 69, "The worker cannot train: step 5 goes wrong"),
        ({"exit_at": {"5": 73}}, 73, "The worker's disk is full. step 5 goes wrong"),
        ({"kill_at": 5}, 137, "ended by signal 9"),
        ({"no_checkpoint": True}, 0, "refused the final checkpoint: It does not load."),
    ],
)
def test_each_end_is_told_as_what_it_is(
    portal: FakePortal, tmp_path: Path, behaviour: dict[str, object], code: int, words: str
) -> None:
    bench = Bench(portal, tmp_path)
    portal.offer()
    assert bench.python.exists()
    bench.behave(**behaviour)
    assert bench.run() == 1
    ended = portal.attempts[1].ended
    assert (ended["outcome"], ended["exit_code"]) == ("failed", code)
    assert words in ended["message"]
    assert ended["retryable"] is (code in (69, 73, 137))


def test_noise_and_numbers_that_are_none_come_through(bench: Bench) -> None:
    """A 10 MB line, control characters, bytes of no encoding; NaN by its name."""
    bench.portal.offer()
    assert bench.python.exists()
    bench.behave(noise=True, nan_at=3)
    assert bench.run() == 0
    said = bench.portal.attempts[1]
    assert b"x" * 10_000_000 + b"\x00\x1b[31m\xff\xfe red \r\n" in said.log
    assert said.points[3, "loss"] == "NaN"
    assert said.ended["log_sha256"] == digest(bytes(said.log))


def test_a_cancelled_job_saves_its_state_first(bench: Bench) -> None:
    bench.portal.offer()
    assert bench.python.exists()
    bench.behave(hold_at=6)
    agent = bench.start()
    bench.wait_for_step(5)
    bench.portal.cancel[1] = "graceful"
    assert agent.end() == 0
    said = bench.portal.attempts[1]
    assert (said.ended["outcome"], said.ended["exit_code"]) == ("cancelled", 75)
    assert said.kinds[5] == "partial"


def test_an_attempt_whose_time_is_over_saves_its_state_and_says_so(bench: Bench) -> None:
    """On every engine: whoever watches the trainer keeps the time."""
    bench.portal.offer(resources={"gpus": 0, "seconds": 1})
    assert bench.python.exists()
    bench.behave(hold_at=6)
    assert bench.run() == 0
    said = bench.portal.attempts[1]
    assert (said.ended["outcome"], said.ended["exit_code"]) == ("preempted", 75)
    assert said.ended["message"] == "Its time of 1 seconds was over."
    assert said.kinds[5] == "partial"


def test_a_trainer_that_overstays_without_saving_is_not_taken_for_one_that_crashed() -> None:
    ended = judge(137, OVERTIME, "Its time of 60 seconds was over.", "")
    assert (ended.outcome, ended.retryable) == ("preempted", False)
    assert ended.message == "Its time of 60 seconds was over. It had not saved in time and was ended."
    assert judge(0, OVERTIME, "Its time of 60 seconds was over.", "").outcome == "succeeded"


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_worker_whose_clock_is_hours_off_runs_its_job(
    portal: FakePortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Only durations are compared, and none by a clock that can be set."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
    portal.offer(resources={"gpus": 0, "seconds": 3600})
    assert Bench(portal, tmp_path, "relay").run() == 0
    said = portal.attempts[1]
    assert said.ended["outcome"] == "succeeded"
    assert said.beats


def test_a_disk_that_cannot_hold_the_input_is_said_to_be_that(
    portal: FakePortal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.client.download.SPARE", 1 << 60)
    portal.offer()
    assert Bench(portal, tmp_path, "relay").run() == 1
    ended = portal.attempts[1].ended
    assert (ended["outcome"], ended["exit_code"], ended["retryable"]) == ("failed", 73, True)
    assert "The worker's disk cannot hold this job" in ended["message"]


def test_a_trainer_that_will_not_stop_is_killed(bench: Bench) -> None:
    bench.portal.offer()
    assert bench.python.exists()
    bench.behave(hold_at=6, deaf=True)
    agent = bench.start()
    bench.wait_for_step(5)
    bench.portal.cancel[1] = "graceful"
    wait_for(lambda: bench.portal.attempts[1].beats > 3)
    bench.portal.cancel[1] = "kill"
    agent.end()
    assert bench.portal.attempts[1].ended["outcome"] == "cancelled"
    assert not list(processes_of(bench.spool()))


def test_an_attempt_that_lost_its_lease_stops_at_once_and_says_nothing_more(bench: Bench) -> None:
    bench.portal.offer()
    assert bench.python.exists()
    bench.behave(hold_at=6, deaf=True)
    agent = bench.start()
    bench.wait_for_step(5)
    bench.portal.stale.add(1)
    agent.end()
    said = bench.portal.attempts[1]
    assert said.ended is None
    assert not list(processes_of(bench.spool()))
    assert not bench.spool().exists()


def test_a_worker_that_goes_away_saves_and_another_goes_on_from_there(bench: Bench) -> None:
    bench.portal.offer()
    assert bench.python.exists()
    bench.behave(hold_at=6)
    agent = bench.start()
    bench.wait_for_step(5)
    agent.agent.drain()
    agent.agent.drain()
    agent.end()
    first = bench.portal.attempts[1]
    assert (first.ended["outcome"], first.ended["exit_code"]) == ("preempted", 75)
    bench.behave()
    bench.portal.offer(2, resume=bench.portal.resume_from(1, 5))
    assert bench.run() == 0
    second = bench.portal.attempts[2]
    assert second.ended["outcome"] == "succeeded"
    assert sorted(step for step, _ in second.points if step) == sorted([*range(6, 11), *range(6, 11)])


def test_a_portal_that_is_away_stops_nothing_and_loses_nothing(bench: Bench) -> None:
    """503, broken connections and slow answers; every line of the log arrives once and in order."""
    calls = iter(range(10_000))
    kinds = [503, "reset", None, 0.05, None, 502, None]
    bench.portal.faults = lambda path: kinds[next(calls) % len(kinds)] if "/attempts/" in path else None
    bench.portal.offer(last_step=16)
    assert bench.python.exists()
    bench.behave(pace=0.05)
    assert bench.run() == 0
    said = bench.portal.attempts[1]
    assert said.ended["outcome"] == "succeeded"
    assert len(bytes(said.log).splitlines()) == 16 + 2
    assert said.ended["log_sha256"] == digest(bytes(said.log))
    assert len(said.points) == 16 * 2


def test_without_any_answer_training_is_stopped_after_a_while_and_told_when_the_portal_is_back(bench: Bench) -> None:
    away = []
    bench.portal.faults = lambda path: 503 if away and "/attempts/" in path else None
    bench.offline_grace = 1.5
    bench.portal.offer()
    assert bench.python.exists()
    bench.behave(hold_at=6)
    agent = bench.start(once=False)
    bench.wait_for_step(5)
    away.append(1)
    wait_for(lambda: (bench.spool() / "output" / "checkpoints" / "step-0000005").exists(), "saving")
    away.clear()
    ended = bench.wait_for_end()
    assert ended["outcome"] == "preempted"
    agent.agent.drain()
    agent.end()
