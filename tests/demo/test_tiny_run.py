"""All numbers of demo/tiny belong together: losses and scores follow from its weights and its rows, without torch.

The rows come through the portal's own reading of the published run, the forward pass is plain numpy.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from sqlmodel import Session
from tokenizers import Tokenizer

from portal.catalog.batches import read_batch
from portal.catalog.findings import list_findings
from portal.catalog.steps import get_step
from portal.database import create_database_engine, open_session
from portal.demo import build_demo
from portal.demo.build import TINY
from portal.demo.tiny_data import NAN_STEP, PAD_ID, SPIKE_STEP
from portal.demo.tiny_evals import evaluate, row_losses
from portal.demo.tiny_release import LAST_STEP, MODEL, learning_rate, write_release
from portal.settings import Settings
from tests.demo.llama_numpy import Llama

CHECKPOINTS = range(0, LAST_STEP + 1, 50)


@dataclass(frozen=True)
class Demo:
    """demo/tiny in a catalog."""

    settings: Settings
    session: Session


@pytest.fixture
def demo(sqlite_settings: Settings) -> Iterator[Demo]:
    engine = create_database_engine(sqlite_settings)
    build_demo(sqlite_settings, engine, only="tiny")
    with open_session(engine) as session:
        yield Demo(sqlite_settings, session)
    engine.dispose()


@pytest.fixture(scope="module")
def log() -> list[dict[str, float]]:
    with (TINY / "metrics" / "train.csv").open(newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def _model(step: int) -> Llama:
    return Llama(TINY / "checkpoints" / f"step-{step:04d}")


def test_losses_follow_from_the_checkpoint_before_and_the_rows_of_the_step(
    demo: Demo, log: list[dict[str, float]]
) -> None:
    for step in (1, 51, 151, SPIKE_STEP, 401, 501, 551):
        batch = read_batch(demo.session, demo.settings, "demo/tiny", step, 0, 16, text=False)
        assert [row.fault for row in batch.rows] == [None] * 16
        ids = np.array([row.token_ids for row in batch.rows])
        losses = row_losses(_model(step - 1)(ids[:, :-1]), ids[:, 1:])
        assert losses.mean() == pytest.approx(log[step - 1]["loss"], abs=1e-4)
    assert log[SPIKE_STEP - 1]["loss"] > 10 * log[SPIKE_STEP - 2]["loss"]


def test_losses_by_source_follow_from_the_sources_of_the_rows(demo: Demo, log: list[dict[str, float]]) -> None:
    batch = read_batch(demo.session, demo.settings, "demo/tiny", 251, 0, 16, text=False)
    ids = np.array([row.token_ids for row in batch.rows])
    losses = row_losses(_model(250)(ids[:, :-1]), ids[:, 1:])
    own = [loss for row, loss in zip(batch.rows, losses, strict=True) if row.source == "facts"]
    assert own
    assert np.mean(own) == pytest.approx(log[250]["loss_facts"], abs=1e-4)


def test_the_nan_is_a_row_without_targets_and_its_update_was_skipped(demo: Demo, log: list[dict[str, float]]) -> None:
    batch = read_batch(demo.session, demo.settings, "demo/tiny", NAN_STEP, 0, 16, text=True)
    ids = np.array([row.token_ids for row in batch.rows])
    losses = row_losses(_model(NAN_STEP - 1)(ids[:, :-1]), ids[:, 1:])
    empty = (ids == PAD_ID).all(axis=1)
    assert np.array_equal(np.isnan(losses), empty)
    assert empty.sum() == 1
    assert set(batch.rows[int(empty.argmax())].pieces or []) == {"<|pad|>"}
    before, at = log[NAN_STEP - 2], log[NAN_STEP - 1]
    assert math.isnan(at["loss"])
    assert math.isnan(at["grad_norm"])
    assert at["weight_norm"] == before["weight_norm"]
    values = {m.name: m.special for m in get_step(demo.session, demo.settings, "demo/tiny", NAN_STEP).metrics}
    assert values["loss"] == values["grad_norm"] == "nan"


@pytest.mark.parametrize("step", [0, 300, 600])
def test_evaluations_follow_from_the_weights(step: int) -> None:
    stored = json.loads((TINY / "evals" / f"results_step{step}.json").read_text())
    measured = evaluate(_model(step), Tokenizer.from_file(str(TINY / "tokenizer.json")), step)
    for task, numbers in stored["results"].items():
        numbers.pop("alias")
        assert measured["results"][task].items() >= {"alias": task}.items()
        assert {n: measured["results"][task][n] for n in numbers} == pytest.approx(numbers, rel=1e-4)
    assert {k: v for k, v in measured.items() if k != "results"} == {k: v for k, v in stored.items() if k != "results"}


def test_each_checkpoint_holds_the_state_after_its_step(log: list[dict[str, float]]) -> None:
    for step in CHECKPOINTS:
        folder = TINY / "checkpoints" / f"step-{step:04d}"
        weights, moments = load_file(folder / "model.safetensors"), load_file(folder / "optimizer.safetensors")
        state = json.loads((folder / "trainer_state.json").read_text())
        updates = step - (step >= NAN_STEP)
        assert (state["step"], state["updates"]) == (step, updates)
        assert state["data_position"]["next_entry"] == step * 16
        assert json.loads((folder / "config.json").read_text()) == MODEL
        assert load_file(folder / "rng.safetensors")["torch_cpu"].dtype == np.uint8
        for name, weight in weights.items():
            assert moments[f"state.{name}.exp_avg"].shape == moments[f"state.{name}.exp_avg_sq"].shape == weight.shape
            assert moments[f"state.{name}.step"] == updates
        if step:
            norm = math.sqrt(sum(float((w.astype(np.float64) ** 2).sum()) for w in weights.values()))
            assert norm == pytest.approx(log[step - 1]["weight_norm"], rel=1e-12)


def test_the_log_is_complete(log: list[dict[str, float]]) -> None:
    assert [row["step"] for row in log] == list(range(1, LAST_STEP + 1))
    assert [row["tokens"] for row in log] == [2048 * step for step in range(1, LAST_STEP + 1)]
    assert [row["lr"] for row in log] == [learning_rate(step) for step in range(1, LAST_STEP + 1)]
    assert log[-1]["loss"] < 0.7 < 5.7 < log[0]["loss"]


def test_the_release_is_small_and_the_one_its_code_writes(tmp_path: Path) -> None:
    assert sum(p.stat().st_size for p in TINY.rglob("*") if p.is_file()) <= 6_000_000
    weights = load_file(TINY / "checkpoints" / "step-0600" / "model.safetensors")
    write_release(tmp_path, sum(w.size for w in weights.values()))
    assert (tmp_path / "release.yaml").read_bytes() == (TINY / "release.yaml").read_bytes()
    for stage in ("main", "anneal"):
        written, committed = (
            yaml.safe_load((folder / "configs" / f"{stage}.yaml").read_text()) for folder in (tmp_path, TINY)
        )
        # The digests name the code that trained; a later comment changes the code and not the run.
        assert written.pop("code_sha256").keys() == committed.pop("code_sha256").keys()
        assert written.pop("trainer").keys() == committed.pop("trainer").keys()
        assert written == committed


def test_nothing_is_found_wrong_with_it(demo: Demo) -> None:
    assert [f.message for f in list_findings(demo.session, "demo/tiny").items if f.severity != "info"] == []
