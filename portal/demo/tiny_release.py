"""The manifest, configs and schedule of demo/tiny."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

from portal.demo import text, tiny_data, tiny_evals, words
from portal.demo.tiny_data import (
    CHUNKS,
    NAN_STEP,
    ROW_LENGTH,
    ROWS_PER_STEP,
    SPIKE_STEP,
    STAGES,
    VOCABULARY,
    stage_chunks,
)
from portal.trainer.source import code_sha256

CADENCE = 50
LAST_STEP = 600
WARMUP = 20
PEAK = 0.01
FLOOR = 0.0005
SCHEDULE = {
    "kind": "warmup-stable-decay",
    "peak": PEAK,
    "floor": FLOOR,
    "warmup_steps": WARMUP,
    "decay_from": 500,
    "decay_to": 600,
}
MODEL: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "max_position_embeddings": ROW_LENGTH - 1,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "initializer_range": 0.02,
    "bos_token_id": tiny_data.END_ID,
    "eos_token_id": tiny_data.END_ID,
    "pad_token_id": tiny_data.PAD_ID,
    "torch_dtype": "float32",
}
"""config.json of every checkpoint, as transformers reads it."""
OPTIMIZER: dict[str, Any] = {
    "class": "AdamW",
    "betas": [0.9, 0.95],
    "eps": 1e-8,
    "weight_decay": 0.1,
    "no_decay": "vectors",
}
CLIP = 1.0


def training() -> dict[str, Any]:
    """All that training depends on besides rows and state, as the trainer reads it."""
    return {
        "sequence_length": ROW_LENGTH - 1,
        "row_length": ROW_LENGTH,
        "rows_per_step": ROWS_PER_STEP,
        "micro_batch": ROWS_PER_STEP,
        "pad_id": tiny_data.PAD_ID,
        "loss": "mean-of-rows",
        "precision": "float32",
        "attention": "sdpa",
        "optimizer": dict(OPTIMIZER),
        "clip": CLIP,
        "schedule": dict(SCHEDULE),
        "when_not_finite": "skip",
        "seed": tiny_data.SEED,
        "numerics": {"threads": 1, "deterministic": True, "portable": True},
    }


def learning_rate(step: int) -> float:
    """Of the update of ``step``: up over 20 steps, level to 500, down in a line to 600."""
    if step <= WARMUP:
        return PEAK * step / WARMUP
    if step <= STAGES[0].last_step:
        return PEAK
    left = (LAST_STEP - step) / (LAST_STEP - STAGES[0].last_step)
    return FLOOR + (PEAK - FLOOR) * left


def write_release(folder: Path, parameters: int) -> None:
    """Write configs and ``release.yaml`` of a trained run into its folder."""
    (folder / "configs").mkdir(exist_ok=True)
    for stage in STAGES:
        _write_yaml(folder / "configs" / f"{stage.name}.yaml", _config(stage.name))
    _write_yaml(folder / "release.yaml", manifest(parameters))


def manifest(parameters: int) -> dict[str, Any]:
    """The release manifest of demo/tiny."""
    return {
        "format": "llm360-portal/release/1",
        "run": "demo/tiny",
        "kind": "pretrain",
        "title": "Tiny Llama, really trained",
        "description": DESCRIPTION,
        "license": {"code": "apache-2.0", "weights": "apache-2.0", "data": "cc0-1.0"},
        "model": {
            "architecture": "LlamaForCausalLM",
            "parameters": parameters,
            "config": f"checkpoints/step-{LAST_STEP:04d}/config.json",
            "vocabulary": VOCABULARY,
        },
        "tokenizer": "tokenizer.json",
        "training": {
            "sequence_length": ROW_LENGTH - 1,
            "row_length": ROW_LENGTH,
            "rows_per_step": ROWS_PER_STEP,
            "tokens_per_step": ROWS_PER_STEP * (ROW_LENGTH - 1),
            "last_step": LAST_STEP,
        },
        "cadence": CADENCE,
        "stages": [{"name": s.name, "first_step": s.first_step, "last_step": s.last_step} for s in STAGES],
        "checkpoints": [
            {
                "steps": {"first": 0, "every": CADENCE, "count": LAST_STEP // CADENCE + 1},
                "labels": ["ckpt_{index:03d}"],
                "dtype": "float32",
                "contains": ["weights", "optimizer", "scheduler", "rng", "data_position", "config"],
                "location": "checkpoints/step-{step:04d}",
            }
        ],
        "data": {"chunks": [_chunk(plan) for plan in CHUNKS], "order": _orders()},
        "metrics": [{"file": "metrics/train.csv", "x": "step", "series": SERIES}],
        "configs": [
            {
                "file": f"configs/{stage.name}.yaml",
                "first_step": stage.first_step,
                "code": {"repo": "llm360-portal", "path": "portal/demo/build_tiny.py"},
            }
            for stage in STAGES
        ],
        "events": _events(),
        "evaluations": [{"file": "evals/results_step*.json", "format": "lm-eval", "by": "portal/demo/tiny_evals.py"}],
    }


DESCRIPTION = (
    "A Llama-architecture model of about 29,000 parameters, trained for 600 steps on one CPU thread by "
    "`python -m portal.demo.build_tiny`, on text from a seeded generator with four sources: stories, arithmetic, code "
    "and facts. All numbers belong together: the loss at step s is what the weights after step s-1 give on the batch of "
    "step s. Two things went wrong, both on purpose: step 301 reads sixteen rows of noise labelled code, and step 451 "
    "reads a row of padding only, whose mean loss is 0/0; its update was skipped."
)

_BATCH_LOSS = "mean over the 16 rows of each row's mean over its targets, padding not counted; before the update"
SERIES: dict[str, dict[str, str]] = {
    "loss": {"column": "loss", "group": "train", "unit": "nats", "reduction": _BATCH_LOSS},
    **{
        f"loss/{source}": {
            "column": f"loss_{source}",
            "group": "train by source",
            "unit": "nats",
            "reduction": f"as loss, over the batch's rows labelled {source}; no point where it has none",
        }
        for source in text.SOURCES
    },
    "grad_norm": {"column": "grad_norm", "group": "optimizer", "reduction": "global L2 norm before clipping at 1.0"},
    "weight_norm": {"column": "weight_norm", "group": "optimizer", "reduction": "global L2 norm after the update"},
    "lr": {"column": "lr", "group": "optimizer", "reduction": "of this step's update"},
    "tokens": {
        "column": "tokens",
        "group": "progress",
        "unit": "tokens",
        "reduction": "targets read by the end of the step",
    },
}


def _chunk(plan: tiny_data.ChunkPlan) -> dict[str, Any]:
    total = sum(plan.rows.values())
    entry: dict[str, Any] = {
        "name": plan.name,
        "files": [{"path": plan.path}],
        "format": plan.format,
        "rows": total,
        "row_length": ROW_LENGTH,
        "sources": {source: round(count / total, 6) for source, count in plan.rows.items()},
    }
    if plan.format == "flat":
        entry["dtype"] = "u16"
    if plan.name == tiny_data.GARBLED[0]:
        rows = tiny_data.GARBLED[1]
        entry["note"] = f"Rows {rows.start} to {rows.stop - 1} are labelled code but are noise: random token ids."
    if plan.name == tiny_data.EMPTY[0]:
        entry["note"] = f"Row {tiny_data.EMPTY[1]} is nothing but padding."
    return entry


def _orders() -> list[dict[str, Any]]:
    return [
        {
            "first_step": stage.first_step,
            "last_step": stage.last_step,
            "chunks": [plan.name for plan in stage_chunks(stage.name)],
            "kind": "index",
            "file": {"path": "data/order.u32"},
            "dtype": "u32",
            "start": (stage.first_step - 1) * ROWS_PER_STEP,
            "confidence": "exact",
            "repeats": "The chunks are read over and over, every pass in a fresh shuffle.",
        }
        for stage in STAGES
    ]


def _events() -> list[dict[str, Any]]:
    garbled, rows = tiny_data.GARBLED
    empty, row = tiny_data.EMPTY
    return [
        {
            "step": SPIKE_STEP,
            "kind": "spike",
            "chunk": garbled,
            "note": (
                f"The batch is rows {rows.start} to {rows.stop - 1} of {garbled}: noise that passed for code. "
                "A loader would scatter such rows; they were placed together on purpose, so that the spike has one cause."
            ),
            "evidence": "The tokens of this step; the same loss follows from them and the weights of step 300.",
        },
        {
            "step": NAN_STEP,
            "kind": "nan_loss",
            "chunk": empty,
            "note": f"Row {row} of {empty} has no target but padding: its mean is 0/0. The update was skipped.",
            "evidence": "The tokens of this step; skipped_updates in the trainer_state.json of later checkpoints.",
        },
        {
            "step": STAGES[1].first_step,
            "kind": "stage_change",
            "note": "Other chunks, with more arithmetic and facts; the learning rate begins to fall.",
        },
    ]


def _config(stage: str) -> dict[str, Any]:
    sources = {Path(m.__file__ or "").name: m.__file__ or "" for m in (text, words, tiny_data, tiny_evals)}
    here = Path(__file__)
    files = {**sources, here.name: str(here), "build_tiny.py": str(here.with_name("build_tiny.py"))}
    return {
        "stage": stage,
        "trainer": {"name": "portal.trainer", "sha256": code_sha256()},
        "training": training(),
        "chunks": [plan.name for plan in stage_chunks(stage)],
        "code_sha256": {
            name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for name, path in sorted(files.items())
        },
    }


def _write_yaml(path: Path, value: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
