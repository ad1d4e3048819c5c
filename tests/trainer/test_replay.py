"""demo/tiny was trained by this trainer: any of its intervals, trained again, gives its published bits."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from portal.demo.build import TINY
from portal.demo.text import SOURCES
from portal.demo.tiny_data import make_chunks, make_order, rows_of_step, train_tokenizer
from tests.trainer.jobs import Job, Runner


def _replay(folder: Path, base: int, last: int) -> Job:
    """The job of steps ``base + 1`` to ``last``, from nothing but the release: its configs, chunks and order."""
    config = yaml.safe_load((TINY / "configs" / "main.yaml").read_text())
    chunks, order = make_chunks(train_tokenizer()), make_order()
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


@pytest.mark.parametrize(("base", "last"), [(300, 350), (450, 500)], ids=["over the spike", "over the skipped update"])
def test_an_interval_gives_the_published_losses_and_tensors(
    runner: Runner, tmp_path: Path, base: int, last: int
) -> None:
    job = runner.run_well(_replay(tmp_path, base, last))
    with (TINY / "metrics" / "train.csv").open(newline="") as file:
        published = {int(row["step"]): row for row in csv.DictReader(file)}
    metrics = job.metrics()
    assert list(metrics) == list(range(base + 1, last + 1))
    for step, line in metrics.items():
        for name, value in line.items():
            if name != "seconds":
                text = published[step][name.replace("/", "_")]
                assert text == ("nan" if value == "NaN" else str(value)), (step, name)
    place = TINY / "checkpoints" / f"step-{last:04d}"
    for name in ("model.safetensors", "optimizer.safetensors", "rng.safetensors", "config.json"):
        assert (job.checkpoint(last) / name).read_bytes() == (place / name).read_bytes(), name
    made, kept = (json.loads((f / "trainer_state.json").read_text()) for f in (job.checkpoint(last), place))
    for key in ("step", "tokens", "updates", "skipped_updates", "scheduler", "optimizer"):
        assert made[key] == kept[key], key


def test_other_rows_do_not_give_the_published_checkpoint(runner: Runner, tmp_path: Path) -> None:
    job = _replay(tmp_path, 300, 350)
    job.rows[10, 3, 64] ^= 1
    runner.run_well(job)
    with (TINY / "metrics" / "train.csv").open(newline="") as file:
        published = [row["loss"] for row in csv.DictReader(file)]
    same = [str(loss) == published[step - 1] for step, loss in job.losses().items()]
    assert same == [True] * 10 + [False] * 40
    made = load_file(job.checkpoint(350) / "model.safetensors")
    kept = load_file(TINY / "checkpoints" / "step-0350" / "model.safetensors")
    assert not any(np.array_equal(made[name], kept[name]) for name in kept)
    assert all(np.isfinite(values).all() for values in made.values())


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
