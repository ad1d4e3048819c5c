"""Micro-batches, precisions, losses and gradients that are not finite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from portal.demo.tiny_evals import row_losses
from tests.demo.llama_numpy import Llama
from tests.trainer.jobs import LENGTH, ROWS, TRAINING, Job, Runner, all_rows, job


@pytest.fixture(scope="module")
def still(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama without dropout, whose losses follow from weights and rows alone."""
    folder = tmp_path_factory.mktemp("still") / "base"
    runner.call("tests.trainer.models:make", "llama", str(folder), {"tie_word_embeddings": True, "head_dim": 8})
    return folder


def _largest_difference(one: Job, other: Job, step: int) -> float:
    weights, others = (load_file(j.checkpoint(step) / "model.safetensors") for j in (one, other))
    return max(float(np.abs(weights[name] - others[name]).max()) for name in weights)


@pytest.mark.parametrize("loss", ["mean-of-rows", "mean-of-tokens"])
def test_micro_batches_weigh_rows_and_tokens_right(runner: Runner, still: Path, tmp_path: Path, loss: str) -> None:
    at_once = runner.run_well(job(tmp_path / "8", still, last=3, loss=loss))
    in_parts = runner.run_well(job(tmp_path / "3", still, last=3, loss=loss, micro_batch=3))
    for step, line in at_once.metrics().items():
        other = in_parts.metrics()[step]
        assert {k: v for k, v in line.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in other.items() if k != "seconds"}, rel=1e-5
        )
    # Adam divides by the gradient's size: where that is all but zero, rounding shows.
    assert _largest_difference(at_once, in_parts, 3) < 1e-4


def test_losses_are_the_means_that_they_say(runner: Runner, still: Path, tmp_path: Path) -> None:
    ids = all_rows()[0].astype(np.int64)
    config = json.loads((still / "config.json").read_text())
    model = Llama(still)
    model.config = {**config, "rope_theta": config.get("rope_theta") or config["rope_parameters"]["rope_theta"]}
    by_row = row_losses(model(ids[:, :-1]), ids[:, 1:])
    counts = (ids[:, 1:] != TRAINING["pad_id"]).sum(1)
    assert counts[0] < LENGTH - 1
    rows, tokens = (
        runner.run_well(job(tmp_path / loss, still, last=1, loss=loss)) for loss in ("mean-of-rows", "mean-of-tokens")
    )
    line = rows.metrics()[1]
    assert line["loss"] == pytest.approx(by_row.mean(), abs=1e-5)
    assert tokens.losses()[1] == pytest.approx((by_row * counts).sum() / counts.sum(), abs=1e-5)
    code = rows.labels[:ROWS] == 1
    assert line["loss/code"] == pytest.approx(by_row[code].mean(), abs=1e-5)
    assert line["loss/stories"] == pytest.approx(by_row[~code].mean(), abs=1e-5)
    assert (line["lr"], line["tokens"]) == (0.002, ROWS * (LENGTH - 1))


def test_lengths_end_rows_where_they_say(runner: Runner, still: Path, tmp_path: Path) -> None:
    padded = job(tmp_path / "padded", still, last=1)
    cut = job(tmp_path / "cut", still, last=1, pad_id=None)
    lengths = np.full(ROWS, LENGTH, dtype="<u4")
    lengths[0] -= 7
    cut.rows[0, 0, -7:] = 9
    cut.document["rows"]["lengths"] = "lengths.u32"
    cut.folder.mkdir()
    (cut.folder / "lengths.u32").write_bytes(lengths.tobytes())
    assert runner.run_well(cut).losses() == runner.run_well(padded).losses()
    assert _largest_difference(cut, padded, 1) == 0


@pytest.mark.parametrize("precision", ["bf16-mixed", "bfloat16"])
def test_bfloat16_is_near_float32_and_resumes_exactly(
    runner: Runner, base: Path, whole: Job, tmp_path: Path, precision: str
) -> None:
    low = runner.run_well(job(tmp_path / "low", base, last=8, save_every=4, precision=precision))
    rest = runner.run_well(job(tmp_path / "rest", low.checkpoint(4), first=5, last=8, precision=precision))
    assert rest.tensors(8) == low.tensors(8)
    dtypes = {d["dtype"] for n, d in low.tensors(8).items() if n.startswith("model.")}
    assert dtypes == ({"BF16"} if precision == "bfloat16" else {"F32"})
    assert low.losses()[1] != whole.losses()[1]
    assert list(low.losses().values()) == pytest.approx([whole.losses()[s] for s in range(1, 9)], rel=0.05)


def _with_empty_row(place: Path, base: Path, **changes: Any) -> Job:
    made = job(place, base, last=4, save_every=1, **changes)
    made.rows[1, 5] = TRAINING["pad_id"]
    return made


def test_a_gradient_that_is_not_finite_is_recorded_and_not_applied(runner: Runner, still: Path, tmp_path: Path) -> None:
    skipping = runner.run_well(_with_empty_row(tmp_path, still, micro_batch=4))
    at = skipping.metrics()[2]
    assert (at["loss"], at["grad_norm"]) == ("NaN", "NaN")
    assert skipping.result()["skipped_updates"] == [2]
    one, two = skipping.tensors(1), skipping.tensors(2)
    assert {n for n in one if one[n] != two[n]} == set()
    state = json.loads((skipping.checkpoint(4) / "trainer_state.json").read_text())
    assert (state["step"], state["updates"], state["skipped_updates"]) == (4, 3, [2])
    assert skipping.metrics()[3]["loss"] < skipping.metrics()[1]["loss"]


def test_or_ends_the_job_with_what_was_saved_before(runner: Runner, still: Path, tmp_path: Path) -> None:
    stopping = _with_empty_row(tmp_path, still, when_not_finite="stop")
    code, said = runner.run(stopping)
    assert code == 1
    assert said.splitlines()[-1] == "The gradient of step 2 is not finite (its norm is nan)."
    assert [p.name for p in (stopping.output / "checkpoints").iterdir()] == ["step-0000001"]
    assert stopping.result() | {"seconds": 0} == {
        "outcome": "failed",
        "message": "The gradient of step 2 is not finite (its norm is nan).",
        "first_step": 1,
        "last_step": 1,
        "missing": [],
        "skipped_updates": [],
        "seconds": 0,
        "steps_per_second": stopping.result()["steps_per_second"],
        "tokens_per_second": stopping.result()["tokens_per_second"],
    }
