"""The agent as a process: killed, started again, drained, refused."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from portal.cli import main
from portal.worker.executors.identity import kill_all, processes_of
from tests.worker.benches import Bench, wait_for
from tests.worker.fake_portal import FakePortal, digest


@pytest.fixture
def bench(portal: FakePortal, tmp_path: Path) -> Iterator[Bench]:
    """A worker."""
    made = Bench(portal, tmp_path)
    assert made.python.exists()
    yield made
    made.clean_up()
    kill_all(made.spool(1))
    kill_all(made.spool(2))


@pytest.mark.parametrize("staging", ["direct", "relay"])
def test_an_agent_that_was_killed_takes_its_attempt_up_again(bench: Bench, staging: str) -> None:
    """The trainer notices nothing, and nothing of the log is lost."""
    bench.staging = staging
    bench.portal.offer()
    bench.behave(hold_at=6)
    first = bench.spawn()
    bench.wait_for_step(5)
    trainer = [p.pid for p in processes_of(bench.spool()) if "fake_trainer" in " ".join(p.cmdline())]
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second = bench.start(once=False)
    wait_for(lambda: len(bench.portal.workers) == 1 and sum("name" in a for a in bench.portal.asked) == 2)
    assert [p for p in trainer if psutil.pid_exists(p)] == trainer
    bench.go()
    said = bench.portal.attempts[1]
    assert bench.wait_for_end()["outcome"] == "succeeded"
    assert said.ended["log_sha256"] == digest(bytes(said.log))
    assert len(bytes(said.log).splitlines()) == 12
    second.agent.drain()
    assert second.end() == 0
    assert not bench.spool().exists()


@pytest.mark.parametrize("staging", ["direct", "relay"])
def test_a_killed_runner_comes_back_and_finds_its_trainer(bench: Bench, staging: str) -> None:
    bench.staging = staging
    bench.portal.offer()
    bench.behave(hold_at=6)
    agent = bench.start()
    bench.wait_for_step(5)
    processes = {p.pid: " ".join(p.cmdline()) for p in processes_of(bench.spool())}
    trainer = {pid for pid, command in processes.items() if "fake_trainer" in command}
    runner = next(pid for pid, command in processes.items() if "-m portal.worker.runner" in command)
    os.kill(runner, signal.SIGKILL)
    wait_for(lambda: json.loads((bench.spool() / "runner.json").read_text())["pid"] != runner, "another runner")
    bench.go()
    assert agent.end() == 0
    said = bench.portal.attempts[1]
    assert said.ended["outcome"] == "succeeded"
    assert len(bytes(said.log).splitlines()) == 12, "the trainer was started once"
    assert trainer


def test_everything_killed_at_once_is_told_as_lost(bench: Bench) -> None:
    """As when the machine is out of power: what was saved is handed in, the rest is for another attempt."""
    bench.portal.offer()
    bench.behave(hold_at=6)
    agent = bench.start()
    bench.wait_for_step(5)
    kill_all(bench.spool())
    agent.end()
    said = bench.portal.attempts[1]
    assert said.ended["outcome"] == "lost"
    assert said.kinds == {4: "partial"}
    assert said.ended["log_sha256"] == digest(bytes(said.log))


def test_an_agent_whose_job_was_given_away_meanwhile_ends_what_still_runs(bench: Bench) -> None:
    bench.portal.offer()
    bench.behave(hold_at=6, deaf=True)
    bench.staging = "relay"  # the runner alone would not hear of it
    first = bench.spawn()
    bench.wait_for_step(5)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    bench.portal.stale.add(1)
    second = bench.start(once=False)
    wait_for(lambda: not bench.spool().exists(), "the end of the old attempt")
    assert not list(processes_of(bench.spool()))
    second.agent.drain()
    assert second.end() == 0
    assert bench.portal.attempts[1].ended is None


def test_a_draining_worker_finishes_what_it_has_and_takes_nothing_more(bench: Bench) -> None:
    bench.portal.offer()
    bench.behave(hold_at=6)
    process = bench.spawn()
    bench.wait_for_step(5)
    bench.portal.offer(2)
    process.send_signal(signal.SIGTERM)
    bench.go()
    assert process.wait(60) == 0
    assert bench.portal.attempts[1].ended["outcome"] == "succeeded"
    assert bench.portal.asked[-1]["draining"] is True
    assert bench.portal.attempts[2].phases == []


@pytest.mark.parametrize("once", [False, True], ids=["twice", "once with --save-on-stop"])
def test_a_worker_told_to_save_hands_its_job_on(bench: Bench, once: bool) -> None:
    bench.portal.offer()
    bench.behave(hold_at=6)
    process = bench.spawn(*["--save-on-stop"] * once)
    bench.wait_for_step(5)
    process.send_signal(signal.SIGTERM)
    if not once:
        process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    said = bench.portal.attempts[1]
    assert said.ended["outcome"] == "preempted"
    assert said.kinds[5] == "partial"


def test_two_workers_in_one_folder_are_told_apart(bench: Bench) -> None:
    from portal.errors import UsageError

    running = bench.start(once=False)
    wait_for(lambda: bench.portal.asked)
    with pytest.raises(UsageError, match="Another worker uses the folder"):
        bench.agent().run()
    running.agent.drain()
    running.end()


def command(bench: Bench, *more: str) -> list[str]:
    """`portal worker` over the fake portal."""
    given = ["worker", "--url", bench.portal.url, "--work", str(bench.work), "--python", str(bench.python)]
    return [*given, "--once", *more]


def test_the_command_runs_a_job(bench: Bench) -> None:
    bench.portal.offer()
    assert main(command(bench, "--token", "good", "--name", "w", "--label", "site=a", "--gpus", "0")) == 0
    assert bench.portal.attempts[1].ended["outcome"] == "succeeded"
    about = bench.portal.asked[0]
    assert (about["name"], about["executor"], about["labels"], about["gpus"]) == ("w", "process", {"site": "a"}, 0)
    assert set(about["trainer"]) >= {"python"}


def test_what_is_refused_is_said_in_one_sentence(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(bench, "--token", "wrong")) == 1
    assert "refuses this worker's token" in capsys.readouterr().err
    bench.portal.workers["w"] = "Bearer somebody"
    assert main(command(bench, "--token", "good", "--name", "w")) == 1
    assert "A worker named so is alive. Stop it." in capsys.readouterr().err
    assert main(command(bench)) == 2
    assert "A token is needed" in capsys.readouterr().err
    assert main(command(bench, "--token", "good", "--python", "/nowhere/python")) == 2
    assert "/nowhere/python does not start" in capsys.readouterr().err
    for given, words in (
        (("--label", "site"), "no k=v"),
        (("--executor", "lsf"), "no executor"),
        (("--staging", "pigeon"), "no staging"),
        (("--cache", "much"), "no size"),
        (("--option", "slots=none"), "no number"),
    ):
        assert main(command(bench, "--token", "good", *given)) == 2
        assert words in capsys.readouterr().err


def test_a_token_that_is_revoked_meanwhile_ends_the_worker_with_a_sentence(bench: Bench) -> None:
    running = bench.start(once=False)
    wait_for(lambda: len(bench.portal.asked) > 1)
    bench.portal.revoked = True
    running.end()
    assert "revoked" in str(running.error)
