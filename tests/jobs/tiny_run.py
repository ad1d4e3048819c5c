"""A run with everything a job needs, small enough for every test: real tensors, rows, an order, a config, a loss."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save_file
from sqlalchemy import Engine

from portal.exchange.publish import publish
from portal.settings import Settings

ROWS_PER_STEP, ROW_LENGTH, VOCABULARY = 4, 17, 64
SOURCES = ("stories", "code", "facts")
TRAINING: dict[str, Any] = {
    "sequence_length": ROW_LENGTH - 1,
    "row_length": ROW_LENGTH,
    "rows_per_step": ROWS_PER_STEP,
    "micro_batch": ROWS_PER_STEP,
    "pad_id": 1,
    "loss": "mean-of-rows",
    "precision": "float32",
    "attention": "sdpa",
    "optimizer": {"class": "AdamW", "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "no_decay": "vectors"},
    "clip": 1.0,
    "schedule": {"kind": "cosine", "peak": 0.01, "floor": 0.001, "warmup_steps": 2, "decay_to": 40},
    "when_not_finite": "skip",
    "seed": 360,
    "numerics": {"threads": 1, "deterministic": True, "portable": True},
}


@dataclass(frozen=True)
class TinyRun:
    """40 steps of 4 rows; checkpoints every 10 steps; chunk ``a`` mixes three sources, ``b`` is all stories."""

    run: str
    folder: Path
    losses: np.ndarray


def tensors_of(step: int) -> dict[str, np.ndarray]:
    """Weights after ``step``."""
    rng = np.random.default_rng(step)
    return {
        "model.embed.weight": rng.standard_normal((VOCABULARY, 8)).astype(np.float32),
        "model.layer.weight": rng.standard_normal((8, 8)).astype(np.float32),
        "model.norm.weight": np.ones(8, np.float32),
    }


def moments_of(step: int) -> dict[str, np.ndarray]:
    """Optimizer state after ``step``."""
    rng = np.random.default_rng(1000 + step)
    return {
        f"state.{name}.{kind}": np.abs(rng.standard_normal(tensor.shape)).astype(np.float32)
        for name, tensor in tensors_of(step).items()
        for kind in ("exp_avg", "exp_avg_sq")
    }


def write_checkpoint(folder: Path, step: int, without: tuple[str, ...] = ()) -> None:
    """A checkpoint as the trainer writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors_of(step), folder / "model.safetensors", {"format": "pt"})
    if "optimizer" not in without:
        save_file(moments_of(step), folder / "optimizer.safetensors")
    if "rng" not in without:
        save_file({"torch_cpu": np.full(16, step, np.uint8)}, folder / "rng.safetensors")
    (folder / "trainer_state.json").write_text(json.dumps({"step": step, "tokens": step * 64}) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": VOCABULARY}) + "\n")


def tiny_run(engine: Engine, settings: Settings, folder: Path, run: str = "lab/tiny", **changes: Any) -> TinyRun:
    """Write and publish it; ``changes`` replace parts of the manifest, ``training`` of its config, ``without`` state."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    rows = rng.integers(2, VOCABULARY, (180, ROW_LENGTH)).astype(np.uint16)
    lines = [json.dumps({"token_ids": r.tolist(), "source": SOURCES[k % 3]}) for k, r in enumerate(rows[:120])]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    rows[120:].astype("<u2").tofile(folder / "b.u16")
    order = np.concatenate([rng.permutation(180)[:120], np.arange(40)]).astype("<u4")
    order.tofile(folder / "order.u32")
    for step in range(0, 41, 10):
        write_checkpoint(folder / f"step{step}", step, changes.get("without", ()))
    losses = np.linspace(4, 3, 40)
    losses[12] = np.nan
    table = "step,loss,lr\n" + "".join(f"{s},{float(losses[s - 1])!r},0.01\n" for s in range(1, 41))
    (folder / "train.csv").write_text(table)
    training = {**TRAINING, **changes.get("training", {})}
    config = changes.get("config", {"training": {k: v for k, v in training.items() if v is not ...}})
    (folder / "main.yaml").write_text(yaml.safe_dump(config))
    document = DOCUMENT | {"run": run} | changes.get("manifest", {})
    (folder / "release.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    publish(folder, settings, engine)
    return TinyRun(run, folder, losses)


DOCUMENT: dict[str, Any] = {
    "format": "llm360-portal/release/1",
    "title": "A tiny run",
    "model": {
        "architecture": "LlamaForCausalLM",
        "parameters": 584,
        "config": "step0/config.json",
        "vocabulary": VOCABULARY,
    },
    "training": {
        "sequence_length": ROW_LENGTH - 1,
        "row_length": ROW_LENGTH,
        "rows_per_step": ROWS_PER_STEP,
        "tokens_per_step": 64,
        "last_step": 40,
    },
    "cadence": 10,
    "checkpoints": [{"steps": {"first": 0, "every": 10, "count": 5}, "dtype": "float32", "location": "step{step}"}],
    "data": {
        "chunks": [
            {
                "name": "a",
                "files": [{"path": "a.jsonl"}],
                "format": "jsonl",
                "rows": 120,
                "row_length": ROW_LENGTH,
                "sources": {"stories": 1 / 3, "code": 1 / 3, "facts": 1 / 3},
            },
            {
                "name": "b",
                "files": [{"path": "b.u16"}],
                "format": "flat",
                "dtype": "u16",
                "rows": 60,
                "row_length": ROW_LENGTH,
                "sources": {"stories": 1.0},
            },
        ],
        "order": [
            {
                "first_step": 1,
                "last_step": 30,
                "chunks": ["a", "b"],
                "kind": "index",
                "file": {"path": "order.u32"},
                "dtype": "u32",
            },
            {"first_step": 31, "last_step": 40, "chunks": ["a", "b"], "kind": "unknown", "confidence": "unknown"},
        ],
    },
    "metrics": [{"file": "train.csv", "series": {"loss": {"column": "loss"}, "lr": {"column": "lr"}}}],
    "configs": [{"file": "main.yaml", "first_step": 1}],
}
