"""demo/tiny was trained by this trainer: any of its intervals, trained again, gives its published bits."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from safetensors.numpy import load_file

from portal.demo.build import TINY
from portal.demo.text import SOURCES
from portal.demo.tiny_data import Rows, make_chunks, make_order, rows_of_step, train_tokenizer
from tests.trainer.jobs import Job, Runner


@cache
def _data() -> tuple[dict[str, Rows], npt.NDArray[np.uint32]]:
    return make_chunks(train_tokenizer()), make_order()


def _replay(folder: Path, base: int, last: int) -> Job:
    """The job of steps ``base + 1`` to ``last``: its config as released, its rows from chunks and order."""
    config = yaml.safe_load((TINY / "configs" / "main.yaml").read_text())
    chunks, order = _data()
    batches = [rows_of_step(step, chunks, order) for step in range(base + 1, last + 1)]
    document = {
        "format": "llm360-portal/trainer/1",
        "checkpoint": str(TINY / "checkpoints" / f"step-{base:04d}"),
        "first_step": base + 1,
        "last_step": last,
        "rows": {
            "file": "input/rows.bin",
            "dtype": "u16",
            "row_length": config["training"]["row_length"],
            "sources": {"names": list(SOURCES), "file": "input/sources.u8"},
        },
        "training": config["training"],
        "save_every": 50,
        "output": "output",
    }
    job = Job(folder, document, np.stack([batch.ids for batch in batches]))
    job.labels = np.array([SOURCES.index(label) for batch in batches for label in batch.sources], dtype=np.uint8)
    return job


@pytest.fixture(scope="module")
def published() -> dict[int, dict[str, str]]:
    with (TINY / "metrics" / "train.csv").open(newline="") as file:
        return {int(row["step"]): row for row in csv.DictReader(file)}


def _assert_measured_as_published(job: Job, published: dict[int, dict[str, str]]) -> None:
    for step, line in job.metrics().items():
        for name, value in line.items():
            if name != "seconds":
                text = published[step][name.replace("/", "_")]
                assert text == ("nan" if value == "NaN" else str(value)), (step, name)


def test_an_interval_gives_the_published_losses_and_tensors(
    runner: Runner, tmp_path: Path, published: dict[int, dict[str, str]]
) -> None:
    job = runner.run_well(_replay(tmp_path, 300, 350))
    assert list(job.metrics()) == list(range(301, 351))
    _assert_measured_as_published(job, published)
    place = TINY / "checkpoints" / "step-0350"
    for name in ("model.safetensors", "optimizer.safetensors", "rng.safetensors", "config.json"):
        assert (job.checkpoint(350) / name).read_bytes() == (place / name).read_bytes(), name
    made, kept = (json.loads((f / "trainer_state.json").read_text()) for f in (job.checkpoint(350), place))
    for key in ("step", "tokens", "updates", "skipped_updates", "scheduler", "optimizer"):
        assert made[key] == kept[key], key


def test_so_does_one_over_the_skipped_update(
    runner: Runner, tmp_path: Path, published: dict[int, dict[str, str]]
) -> None:
    job = runner.run_well(_replay(tmp_path, 450, 456))
    assert list(job.metrics()) == list(range(451, 457))
    _assert_measured_as_published(job, published)
    assert job.result()["skipped_updates"] == [451]


def test_one_other_token_does_not(runner: Runner, tmp_path: Path, published: dict[int, dict[str, str]]) -> None:
    job = _replay(tmp_path, 300, 306)
    job.rows[2, 3, 64] ^= 1
    runner.run_well(job)
    same = [str(loss) == published[step]["loss"] for step, loss in job.losses().items()]
    assert same == [True, True, False, False, False, False]


def test_digests_are_of_the_bytes_in_the_files(runner: Runner, tmp_path: Path) -> None:
    job = _replay(tmp_path, 300, 302)
    runner.run_well(job)
    place = job.checkpoint(302)
    digests = job.tensors(302)
    assert math.prod(digests["model.embed_tokens.weight"]["shape"]) == 320 * 32
    stored = load_file(place / "model.safetensors") | load_file(place / "optimizer.safetensors")
    stored |= {f"rng.{name}": value for name, value in load_file(place / "rng.safetensors").items()}
    assert digests.keys() == stored.keys()
    for name, value in stored.items():
        assert digests[name]["sha256"] == hashlib.sha256(value.tobytes()).hexdigest()
        assert digests[name]["shape"] == list(value.shape)
