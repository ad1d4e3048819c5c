"""Two processes make the steps that one makes, and resume exactly among themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.trainer.jobs import Job, Runner, job


@pytest.fixture(scope="module")
def still(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("still") / "base"
    runner.call("tests.trainer.models:make", "llama", str(folder), {})
    return folder


def _run_two(runner: Runner, wanted: Job) -> Job:
    codes, said = runner.together(wanted, 2)
    assert codes == [0, 0], said
    return wanted


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_are_as_good_as_one(runner: Runner, still: Path, tmp_path: Path, kind: str) -> None:
    alone = runner.run_well(job(tmp_path / "alone", still, last=6, parallel=kind))
    # Five rows for one, three for the other, in parts of two: shares need not be even.
    pair = _run_two(runner, job(tmp_path / "pair", still, last=6, parallel=kind, micro_batch=2))
    assert pair.losses() == pytest.approx(alone.losses(), rel=1e-5)
    for name in ("model.safetensors", "optimizer.safetensors"):
        one, two = (load_file(j.checkpoint(6) / name) for j in (alone, pair))
        assert one.keys() == two.keys()
        assert max(float(np.abs(one[n] - two[n]).max()) for n in one) < 1e-4
    plain = runner.run_well(job(tmp_path / "plain", still, last=6))
    assert plain.tensors(6) == alone.tensors(6)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_resume_exactly_with_dropout(runner: Runner, base: Path, tmp_path: Path, kind: str) -> None:
    pair = _run_two(runner, job(tmp_path / "pair", base, last=4, save_every=2, parallel=kind))
    rest = _run_two(runner, job(tmp_path / "rest", pair.checkpoint(2), first=3, last=4, parallel=kind))
    assert rest.result()["missing"] == []
    assert rest.tensors(4) == pair.tensors(4)
    assert "rng.rank1.torch_cpu" in pair.tensors(4)
    # One process draws other numbers than two: it says so by what comes out, not by failing.
    alone = runner.run_well(job(tmp_path / "alone", pair.checkpoint(2), first=3, last=4))
    assert alone.tensors(4) != pair.tensors(4)


def test_several_processes_started_together_stop_together(runner: Runner, still: Path, tmp_path: Path) -> None:
    pair = job(tmp_path, still, parallel="ddp", save_every=None)
    (argument,) = pair.write()
    command = [runner.python, "-m", "portal.trainer", "--processes", "2", argument]
    environment = runner.environment() | {"GLOO_SOCKET_IFNAME": "lo"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Training steps 1 to 60 on cpu (2 processes, float32)")
        process.terminate()
        said = process.stdout.read()
    assert process.returncode == 75
    assert said.splitlines()[-1] == f"preempted: step {pair.result()['last_step']} of 60"


def test_an_input_that_is_bad_ends_every_process(runner: Runner, still: Path, tmp_path: Path) -> None:
    bad = job(tmp_path, still, last=6, parallel="ddp")
    bad.rows[2, 1, 3] = 64
    codes, said = runner.together(bad, 2)
    assert codes == [65, 65]
    assert said.strip() == ("Row 1 of step 3 has token id 64 at position 3, beyond the model's vocabulary of 64.")


def test_processes_that_nobody_asked_for_are_refused(runner: Runner, still: Path, tmp_path: Path) -> None:
    codes, said = runner.together(job(tmp_path, still, last=2), 2)
    assert codes == [65, 65]
    assert said.strip() == "2 processes were started, but `trainer.parallel` is none."
