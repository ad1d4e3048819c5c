"""Inputs that never work end with 65 and one sentence that names what is wrong; a full disk ends with 73."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.trainer.jobs import Job, Runner, job

Breaks = Callable[[Path], object]


def _weights(change: Callable[[dict[str, np.ndarray]], object], name: str = "model.safetensors") -> Breaks:
    def breaks(folder: Path) -> None:
        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name, {"format": "pt"})

    return breaks


def _config(**changes: object) -> Breaks:
    def breaks(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return breaks


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _truncated(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 30_000)


def _set(tensors: dict[str, np.ndarray], name: str, value: np.ndarray) -> None:
    tensors[name] = value


Q, K, NORM = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.k_proj.weight", "model.norm.weight"
CHECKPOINTS: dict[str, tuple[Breaks, str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json cannot be read: No such file or directory."),
    "unknown architecture": (_config(model_type="nextnet"), "knows no model type 'nextnet'."),
    "own code": (
        _config(model_type="nextnet", auto_map={"AutoModelForCausalLM": "evil--model.Evil"}),
        "knows no model type 'nextnet'.",
    ),
    "no decoder": (_config(model_type="vit"), "a vit model is no decoder that predicts the next token."),
    "quantized": (_config(quantization_config={"quant_method": "gptq"}), "describes quantized weights"),
    "pickle": (_pickled, "pytorch_model.bin is a pickle, which is never read."),
    "truncated": (_truncated, "The weights in"),
    "flipped": (
        _weights(
            lambda t: _set(t, "model.layers.0.mlp.up_proj.weight", t["model.layers.0.mlp.up_proj.weight"].T.copy())
        ),
        "The weight model.layers.0.mlp.up_proj.weight in",
    ),
    "lacking": (_weights(lambda t: t.pop(Q)), f"lack 1 tensors, {Q} the first."),
    "foreign": (
        _weights(lambda t: _set(t, "model.extra.weight", np.ones(3, np.float32))),
        "have 1 tensors no part of the model, model.extra.weight the first.",
    ),
    "not a number": (_weights(lambda t: t[K].fill(np.nan)), f"The weight {K} in"),
    "moments of another model": (
        _weights(lambda t: _set(t, f"state.{NORM}.exp_avg", np.ones(5, np.float32)), "optimizer.safetensors"),
        f"state.{NORM}.exp_avg has shape (5,), its parameter (32,).",
    ),
    "moments missing": (
        _weights(lambda t: t.pop(f"state.{NORM}.step"), "optimizer.safetensors"),
        f"lacks state.{NORM}.step (1 names differ).",
    ),
    "generator": (
        _weights(lambda t: _set(t, "torch_cpu", np.zeros(7, np.uint8)), "rng.safetensors"),
        "rng.safetensors: `torch_cpu` is no state of its generator",
    ),
    "another step": (
        lambda f: (f / "trainer_state.json").write_text('{"step": 29}'),
        "is the state after step 29, but the first step to train is 31.",
    ),
}


@pytest.mark.parametrize("fault", CHECKPOINTS)
def test_a_checkpoint_that_is_no_good_is_named(runner: Runner, whole: Job, tmp_path: Path, fault: str) -> None:
    breaks, sentence = CHECKPOINTS[fault]
    folder = Path(shutil.copytree(whole.checkpoint(30), tmp_path / "base"))
    breaks(folder)
    bad = job(tmp_path / "job", folder, first=31)
    code, said = runner.run(bad)
    assert (code, said.count("\n")) == (65, 1), said
    assert sentence in said
    assert not (bad.output / "checkpoints").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda j: j.rows.__setitem__((4, 2, 9), 64), "Row 2 of step 5 has token id 64 at position 9, beyond"),
        (lambda j: setattr(j, "rows", j.rows[:-1]), "rows.bin has "),
        (lambda j: setattr(j, "labels", j.labels + 2), "names source number 3, but there are only 2 names."),
        (lambda j: j.document["rows"].update(file="input/none.bin"), "none.bin cannot be read: No such file"),
        (lambda j: j.document["training"].update(pad_id=99), "`trainer.training.pad_id` 99 is beyond the model's"),
        (lambda j: j.document.update(device="cuda"), "`trainer.device` is cuda, but torch finds no GPU here."),
    ],
)
def test_rows_and_settings_that_do_not_fit_the_model_are_named(
    runner: Runner, base: Path, tmp_path: Path, change: Callable[[Job], object], sentence: str
) -> None:
    bad = job(tmp_path, base)
    change(bad)
    code, said = runner.run(bad)
    assert (code, said.count("\n")) == (65, 1), said
    assert sentence in said


def test_a_row_with_nothing_to_predict_is_named(runner: Runner, base: Path, tmp_path: Path) -> None:
    bad = job(tmp_path, base, last=2)
    lengths = np.full(16, 33, dtype="<u4")
    lengths[11] = 1
    bad.document["rows"]["lengths"] = "lengths.u32"
    (tmp_path / "lengths.u32").write_bytes(lengths.tobytes())
    code, said = runner.run(bad)
    assert code == 65
    assert said == "Row 11 of rows.bin is 1 ids long; a row needs 2 to 33, one to read and one to predict.\n"


def test_a_full_disk_is_said_to_be_full(runner: Runner, base: Path, tmp_path: Path) -> None:
    small = job(tmp_path, base, last=3)
    code, said = runner.run(small, file_limit=50_000)
    assert code == 73
    assert said.splitlines()[-1].startswith("No space left to write the checkpoint of step 3 in ")
    assert small.result()["last_step"] == 3
    assert [p.name for p in (small.output / "checkpoints").iterdir() if not p.name.startswith(".")] == []


def test_metrics_on_a_full_disk_too(runner: Runner, base: Path, tmp_path: Path) -> None:
    full = job(tmp_path, base, last=3)
    full.output.mkdir()
    (full.output / "metrics.jsonl").symlink_to("/dev/full")
    code, said = runner.run(full)
    assert code == 73
    assert said.splitlines()[-1].startswith("No space left to write metrics in ")
