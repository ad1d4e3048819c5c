"""Jobs for the trainer: their files on disk, and one process that runs them all."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from coverage import Coverage

from portal.trainer.numerics import variables
from portal.trainer.settings import FORMAT, Numerics
from tests.conftest import REPOSITORY

VOCABULARY, LENGTH, ROWS = 64, 33, 8
STEPS = 60
SOURCES = ["stories", "code"]

TRAINING: dict[str, Any] = {
    "sequence_length": LENGTH - 1,
    "row_length": LENGTH,
    "rows_per_step": ROWS,
    "micro_batch": ROWS,
    "pad_id": 1,
    "loss": "mean-of-rows",
    "precision": "float32",
    "optimizer": {"class": "AdamW", "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "no_decay": "vectors"},
    "clip": 1.0,
    "schedule": {"kind": "cosine", "peak": 0.01, "floor": 0.001, "warmup_steps": 5, "decay_to": STEPS},
    "when_not_finite": "skip",
    "seed": 17,
    "numerics": {"threads": 1, "deterministic": True, "portable": True},
}


def all_rows() -> npt.NDArray[np.uint16]:
    """Rows of every step, shape (steps, rows, length): runs that a model can learn, with padding at some ends."""
    rng = np.random.RandomState(3)
    starts, strides = rng.randint(2, VOCABULARY, (2, STEPS, ROWS, 1))
    rows = 2 + (starts + (strides % 3 + 1) * np.arange(LENGTH)) % (VOCABULARY - 2)
    rows[:, 0, -7:] = TRAINING["pad_id"]
    return rows.astype(np.uint16)


@dataclass
class Job:
    """A folder with trainer.json; ``document`` can be changed until it is written."""

    folder: Path
    document: dict[str, Any]
    rows: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.labels = (np.arange(self.rows.shape[0] * self.rows.shape[1]) % 3 == 0).astype(np.uint8)

    def write(self) -> list[str]:
        """Write all files; the trainer's arguments."""
        (self.folder / "input").mkdir(parents=True, exist_ok=True)
        (self.folder / "input" / "rows.bin").write_bytes(self.rows.astype("<u2").tobytes())
        (self.folder / "input" / "sources.u8").write_bytes(self.labels.tobytes())
        path = self.folder / "trainer.json"
        path.write_text(json.dumps(self.document))
        return [str(path)]

    @property
    def output(self) -> Path:
        """Where its results are."""
        return self.folder / "output"

    def tensors(self, step: int) -> dict[str, Any]:
        """Digests of all tensors of a checkpoint, those of the generators too."""
        return json.loads((self.checkpoint(step) / "tensors.json").read_text())["tensors"]

    def checkpoint(self, step: int) -> Path:
        """A checkpoint it wrote."""
        return self.output / "checkpoints" / f"step-{step:07d}"

    def metrics(self) -> dict[int, dict[str, Any]]:
        """What it measured, by step."""
        lines = map(json.loads, (self.output / "metrics.jsonl").read_text().splitlines())
        return {line["step"]: line for line in lines}

    def losses(self) -> dict[int, float]:
        """Its loss by step."""
        return {step: line["loss"] for step, line in self.metrics().items()}

    def result(self) -> dict[str, Any]:
        """result.json."""
        return json.loads((self.output / "result.json").read_text())


def job(folder: Path, base: Path, first: int = 1, last: int = STEPS, **changes: Any) -> Job:
    """Steps ``first`` to ``last`` from ``base``; ``changes`` are of ``training``, but for those that are the job's own."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "checkpoint": str(base),
        "first_step": first,
        "last_step": last,
        "rows": {
            "file": "input/rows.bin",
            "dtype": "u16",
            "row_length": LENGTH,
            "lengths": None,
            "sources": {"names": SOURCES, "file": "input/sources.u8"},
        },
        "training": deepcopy(TRAINING),
        "save_every": 30,
        "output": "output",
        "resume": None,
        "parallel": "none",
        "device": "cpu",
    }
    for key, value in changes.items():
        (document if key in document else document["training"])[key] = value
    return Job(folder, document, all_rows()[first - 1 : last])


class Runner:
    """The process that has torch; every job runs in a fork of it."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python, self.folder, self._logs = python, folder, 0
        environment = {**self.environment(), **variables(Numerics(1, True, True))}
        measured: list[str | Path] = []
        if Coverage.current() is not None:
            environment["COVERAGE_DATA"] = str(REPOSITORY / ".coverage")
            measured = ["-m", "coverage", "run", f"--rcfile={Path(__file__).parent / 'coverage.ini'}"]
        self._process = subprocess.Popen(
            [python, *measured, "-m", "tests.trainer.zygote"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def environment(self) -> dict[str, str]:
        """Of a process that runs the trainer: nothing of this one's settings."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(REPOSITORY)}

    def start(self, arguments: list[str], **request: Any) -> int:
        """Begin a trainer; its pid."""
        return self._ask({"start": arguments, "log": str(self._new_log()), **request})["pid"]

    def wait(self, pid: int) -> int:
        """Its exit code."""
        return self._ask({"wait": pid})["code"]

    def run(self, wanted: Job, **request: Any) -> tuple[int, str]:
        """Run a job to its end: exit code and everything it said."""
        code = self.wait(self.start(wanted.write(), **request))
        return code, self._log().read_text()

    def run_well(self, wanted: Job) -> Job:
        """Run a job that has to succeed."""
        code, said = self.run(wanted)
        assert code == 0, said
        return wanted

    def call(self, function: str, *arguments: Any) -> None:
        """Call a function where torch is."""
        pid = self._ask({"call": function, "arguments": arguments, "log": str(self._new_log())})["pid"]
        assert self.wait(pid) == 0, self._log().read_text()

    def together(self, wanted: Job, processes: int) -> tuple[list[int], str]:
        """Run a job as torchrun would: one process a rank."""
        arguments, pids = wanted.write(), []
        log = self._new_log()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        for rank in range(processes):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
            pids.append(self._ask({"start": arguments, "log": str(log), "environment": place})["pid"])
        return [self.wait(pid) for pid in pids], log.read_text()

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the trainers' process has ended"
        return json.loads(answer)

    def _new_log(self) -> Path:
        self._logs += 1
        self._log().touch()
        return self._log()

    def _log(self) -> Path:
        return self.folder / f"log-{self._logs}.txt"


def copy_without(checkpoint: Path, target: Path, *names: str) -> Path:
    """A checkpoint that lacks some files."""
    shutil.copytree(checkpoint, target, ignore=shutil.ignore_patterns(*names))
    return target
