"""A run that was stopped and resumed is the run that was not, bit for bit; and the comparison can fail."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.trainer.jobs import TRAINING, Job, Runner, all_rows, copy_without, job


def _second_half(whole: Job) -> dict[int, float]:
    return {step: loss for step, loss in whole.losses().items() if step > 30}


def test_the_same_job_gives_the_same_bits(runner: Runner, base: Path, whole: Job, tmp_path: Path) -> None:
    again = runner.run_well(job(tmp_path, base))
    for name in ("model.safetensors", "optimizer.safetensors", "rng.safetensors", "trainer_state.json", "tensors.json"):
        assert (again.checkpoint(60) / name).read_bytes() == (whole.checkpoint(60) / name).read_bytes(), name
    assert again.losses() == whole.losses()


def test_training_learns(whole: Job) -> None:
    losses = whole.losses()
    assert list(losses) == list(range(1, 61))
    assert losses[1] == pytest.approx(4.16, abs=0.2)
    assert losses[60] < losses[1] - 1


def test_from_a_checkpoint_the_rest_of_the_run_comes_out_the_same(runner: Runner, whole: Job, tmp_path: Path) -> None:
    rest = runner.run_well(job(tmp_path, whole.checkpoint(30), first=31))
    assert rest.losses() == _second_half(whole)
    assert rest.tensors(60) == whole.tensors(60)
    assert rest.result()["missing"] == []
    for name in ("model.safetensors", "optimizer.safetensors", "rng.safetensors"):
        assert (rest.checkpoint(60) / name).read_bytes() == (whole.checkpoint(60) / name).read_bytes(), name
    state = json.loads((rest.checkpoint(60) / "trainer_state.json").read_text())
    assert state["step"] == state["updates"] == 60
    assert state["tokens"] == whole.metrics()[60]["tokens"] == 60 * 8 * 32


def test_a_later_attempt_goes_on_from_the_partial_checkpoint(
    runner: Runner, base: Path, whole: Job, tmp_path: Path
) -> None:
    later = job(tmp_path, base, resume=str(whole.checkpoint(30)))
    assert runner.run_well(later).losses() == _second_half(whole)
    assert later.tensors(60) == whole.tensors(60)


def test_an_attempt_with_nothing_left_hands_over_what_it_was_given(
    runner: Runner, base: Path, whole: Job, tmp_path: Path
) -> None:
    later = runner.run_well(job(tmp_path, base, resume=str(whole.checkpoint(60))))
    assert later.losses() == {}
    assert later.tensors(60) == whole.tensors(60)


@pytest.mark.parametrize("dropped", ["optimizer", "schedule", "rng", "data"])
def test_each_part_of_the_state_is_needed(runner: Runner, whole: Job, tmp_path: Path, dropped: str) -> None:
    files = {"optimizer": ["optimizer.safetensors"], "rng": ["rng.safetensors"]}.get(dropped, [])
    rest = job(tmp_path, copy_without(whole.checkpoint(30), tmp_path / "base", *files), first=31)
    if dropped == "schedule":
        rest.document["training"]["schedule"] = {**TRAINING["schedule"], "start_step": 30}
    if dropped == "data":
        rest.rows = all_rows()[:30]
    runner.run_well(rest)
    assert rest.result()["missing"] == (files and [dropped])
    same = [step for step, loss in _second_half(whole).items() if rest.losses()[step] == loss]
    # The first loss follows from weights, rows and dropout alone.
    assert same == ([31] if dropped in ("optimizer", "schedule") else [])
    differing = {n for n, digest in whole.tensors(60).items() if rest.tensors(60)[n] != digest}
    assert {n for n in differing if n.startswith("model.")} == {n for n in whole.tensors(60) if n.startswith("model.")}


def test_stopped_at_any_step_and_resumed_it_is_the_same_run(
    runner: Runner, base: Path, whole: Job, tmp_path: Path
) -> None:
    first = job(tmp_path / "first", base, save_every=None)
    last_seen = random.Random(os.urandom(8)).randint(2, 50)
    pid = runner.start(first.write())
    metrics = first.output / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_bytes().count(b"\n") < last_seen:
        time.sleep(0.002)
    os.kill(pid, signal.SIGTERM)
    assert runner.wait(pid) == 75
    stopped = first.result()
    assert stopped["outcome"] == "preempted"
    assert last_seen <= stopped["last_step"] < 60
    partial = first.checkpoint(stopped["last_step"])
    assert [p.name for p in partial.parent.iterdir()] == [partial.name]
    second = runner.run_well(job(tmp_path / "second", base, resume=str(partial)))
    assert first.losses() | second.losses() == whole.losses()
    assert second.tensors(60) == whole.tensors(60)


def test_stopped_before_its_first_step_there_is_nothing_to_save(runner: Runner, base: Path, tmp_path: Path) -> None:
    early = job(tmp_path, base)
    pid = runner.start(early.write())
    os.kill(pid, signal.SIGTERM)
    code = runner.wait(pid)
    # Before its handlers stand, a process just ends.
    assert code in (75, -signal.SIGTERM)
    if code == 75 and early.result()["last_step"] == 0:
        assert list((early.output / "checkpoints").iterdir()) == []


def test_half_written_checkpoints_are_swept_away_and_never_named(runner: Runner, base: Path, tmp_path: Path) -> None:
    left = tmp_path / "output" / "checkpoints" / ".step-0000002.partial"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    short = runner.run_well(job(tmp_path, base, last=2))
    assert [p.name for p in left.parent.iterdir()] == ["step-0000002"]
    assert sorted(p.name for p in short.checkpoint(2).iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "rng.safetensors",
        "tensors.json",
        "trainer_state.json",
    ]


def test_a_checkpoint_that_is_there_is_not_written_twice(runner: Runner, base: Path, tmp_path: Path) -> None:
    short = runner.run_well(job(tmp_path, base, last=2, save_every=1))
    before = (short.checkpoint(1) / "model.safetensors").stat().st_ino
    shutil.rmtree(short.checkpoint(2))
    runner.run_well(job(tmp_path, base, last=2, save_every=1))
    assert (short.checkpoint(1) / "model.safetensors").stat().st_ino == before
    assert short.checkpoint(2).is_dir()
