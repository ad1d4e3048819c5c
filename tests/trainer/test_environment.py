"""The command as people run it: under another instruction set it is near, not equal, and says where it ran."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import portal.trainer
from tests.trainer.jobs import Job, Runner, job


@pytest.fixture(scope="module")
def elsewhere(runner: Runner, whole: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Twenty steps from 31 on with kernels for AVX2, as on another processor."""
    numerics = {"threads": 1, "deterministic": True, "portable": False}
    folder = tmp_path_factory.mktemp("elsewhere")
    made = job(folder, whole.checkpoint(30), first=31, last=50, numerics=numerics)
    environment = runner.environment() | {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [runner.python, "-m", "portal.trainer", *made.write()]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=170)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "Training steps 31 to 50 on cpu (1 processes, float32)"
    assert done.stdout.splitlines()[-1] == "succeeded: step 50 of 50"
    return made


def test_other_kernels_are_equivalent_and_not_exact(runner: Runner, whole: Job, elsewhere: Job, tmp_path: Path) -> None:
    here = runner.run_well(job(tmp_path, whole.checkpoint(30), first=31, last=50))
    losses, others = here.losses(), elsewhere.losses()
    assert others != losses
    assert others == pytest.approx(losses, abs=1e-5)
    one, two = (load_file(j.checkpoint(50) / "model.safetensors") for j in (here, elsewhere))
    assert 0 < max(float(np.abs(one[name] - two[name]).max()) for name in one) < 1e-4


def test_what_numbers_depend_on_is_recorded(whole: Job, elsewhere: Job) -> None:

    here, other = (json.loads((j.output / "environment.json").read_text()) for j in (whole, elsewhere))
    assert (here["cpu"]["capability"], other["cpu"]["capability"]) == ("DEFAULT", "AVX2")
    assert (here["portable"], other["portable"]) == (True, False)
    assert here["cpu"]["threads"] == 1
    assert here["torch"]["deterministic"]
    assert here["variables"]["MKL_CBWR"] == "COMPATIBLE"
    assert other["variables"]["ATEN_CPU_CAPABILITY"] == "avx2"
    assert here["packages"].keys() >= {"torch", "transformers", "safetensors", "numpy"}
    assert (here["precision"], here["attention"], here["parallel"]) == (
        "float32",
        "sdpa",
        {"kind": "none", "processes": 1},
    )
    digest = hashlib.sha256()
    for path in sorted(Path(portal.trainer.__file__).parent.glob("*.py")):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    assert here["trainer"]["sha256"] == other["trainer"]["sha256"] == digest.hexdigest()


def test_a_result_states_its_speed(whole: Job) -> None:
    result = whole.result()
    assert (result["outcome"], result["first_step"], result["last_step"]) == ("succeeded", 1, 60)
    assert result["missing"] == []
    assert result["tokens_per_second"] == pytest.approx(result["steps_per_second"] * 8 * 32)
    assert result["seconds"] > 60 / result["steps_per_second"]
