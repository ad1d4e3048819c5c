"""demo/amber-scale: generated artifacts in the shape of LLM360's Amber, for looking around at full size."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer

from portal.demo import amber_numbers
from portal.demo.amber_plan import (
    FULL_ROW_LENGTH,
    FULL_ROWS_PER_STEP,
    FULL_STEPS,
    ROW_LENGTH,
    ROWS_PER_STEP,
    Plan,
    Reading,
)
from portal.demo.amber_rows import (
    CONFIG,
    PARAMETERS,
    SHARES,
    VOCABULARY,
    make_pool,
    weights_of,
    write_chunks,
)

GENERATION = 1
"""Raised whenever other bytes are written, so that an older folder is made anew."""


def build_amber_scale(folder: Path, tokenizer: Path, plan: Plan | None = None) -> bool:
    """Generate the release into ``folder``; False when it is there already.

    ``tokenizer`` is the tokenizer.json its text is written with. The folder appears whole or not at all: it is
    written beside its place and renamed.
    """
    plan = plan or Plan()
    mark = f"generation {GENERATION}, {plan}\n"
    marker = folder / "GENERATED"
    if marker.is_file() and marker.read_text("utf-8") == mark:
        return False
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in ("checkpoints", "data", "metrics", "configs"):
        (partial / name).mkdir(parents=True)
    shutil.copyfile(tokenizer, partial / "tokenizer.json")
    _write_checkpoints(partial / "checkpoints", plan)
    write_chunks(partial / "data", plan, make_pool(Tokenizer.from_file(str(tokenizer))))
    amber_numbers.write_metrics(partial / "metrics", plan)
    _write_yaml(partial / "configs" / "train.yaml", TRAINING)
    _write_yaml(partial / "release.yaml", manifest(plan))
    (partial / marker.name).write_text(mark, "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    return True


def manifest(plan: Plan) -> dict[str, Any]:
    """The release manifest."""
    return {
        "format": "llm360-portal/release/1",
        "run": "demo/amber-scale",
        "kind": "pretrain",
        "synthetic": True,
        "title": "Synthetic stand-in in the shape of Amber (nothing was trained)",
        "description": _description(plan),
        "license": {"code": "apache-2.0", "weights": "cc0-1.0", "data": "cc0-1.0"},
        "links": {"paper": "https://arxiv.org/abs/2312.06550"},
        "model": {
            "architecture": "LlamaForCausalLM",
            "parameters": PARAMETERS,
            "config": "checkpoints/ckpt_000/config.json",
            "vocabulary": VOCABULARY,
        },
        "tokenizer": "tokenizer.json",
        "training": {**_geometry(ROWS_PER_STEP, ROW_LENGTH), "last_step": plan.last_step},
        "cadence": plan.steps_per_chunk,
        "stages": [
            {"name": "small batches", "first_step": 1, "last_step": plan.first_full_step - 1},
            {
                "name": "full-size batches",
                "first_step": plan.first_full_step,
                "last_step": plan.last_step,
                **_geometry(FULL_ROWS_PER_STEP, FULL_ROW_LENGTH),
            },
        ],
        "checkpoints": [
            {
                "steps": {"first": plan.steps_per_chunk, "every": plan.steps_per_chunk, "count": plan.chunks},
                "labels": ["ckpt_{index:03d}"],
                "dtype": "bfloat16",
                "contains": ["weights", "config"],
                "location": "checkpoints/ckpt_{index:03d}",
            }
        ],
        "data": {"chunks": _chunks(plan), "order": _orders(plan)},
        "metrics": _metrics(),
        "configs": [
            {"file": "configs/train.yaml", "first_step": 1, "note": "Amber's published settings; nothing ran."}
        ],
        "events": _events(plan),
    }


TRAINING = {
    "synthetic": True,
    "model": "7B in the run this stands in for",
    "nodes": 56,
    "gpus_per_node": 4,
    "rows_per_step": 2240,
    "sequence_length": 2048,
    "optimizer": {"class": "AdamW", "betas": [0.9, 0.95], "weight_decay": 0.1, "clip": 1.0},
    "scheduler": {"kind": "cosine", "peak": 3e-4, "floor": 3e-5, "warmup_steps": 2000},
    "precision": "bf16-mixed",
}


def _description(plan: Plan) -> str:
    return (
        f"Generated, not trained: {plan.chunks} checkpoints, {plan.chunks} chunks, {plan.last_step:,} steps and 20 series "
        "in the shape of LLM360's Amber, made so that every page and query can be tried at full size on any machine. "
        "All numbers and weights come from a random generator. Amber's batch is 2,240 rows of 2,048 tokens; here a "
        f"step reads {ROWS_PER_STEP} rows of {ROW_LENGTH - 1} tokens, so that the tokens of every step fit on a disk, "
        f"and only the last {FULL_STEPS} steps carry batches of the real size. Rows are cut from generated text. As in "
        f"Amber, {len(plan.skipped)} chunks on which the loss became NaN are skipped and the first chunks are read again "
        f"at the end; which chunks is made up. At {len(plan.garbled)} steps the rows are noise and the loss is a spike. "
        f"One fault is planted: ckpt_{plan.copied[1]:03d} holds the weights of ckpt_{plan.copied[0]:03d}."
    )


def _write_checkpoints(folder: Path, plan: Plan) -> None:
    config = json.dumps(CONFIG, indent=2) + "\n"
    original, copy = plan.copied
    for index in range(plan.chunks):
        own = folder / f"ckpt_{index:03d}"
        own.mkdir()
        (own / "model.safetensors").write_bytes(weights_of(original if index == copy else index))
        (own / "config.json").write_text(config, "utf-8")


def _geometry(rows: int, row_length: int) -> dict[str, int]:
    return {
        "sequence_length": row_length - 1,
        "row_length": row_length,
        "rows_per_step": rows,
        "tokens_per_step": rows * (row_length - 1),
    }


def _chunks(plan: Plan) -> list[dict[str, Any]]:
    """Runs of chunks alike, in the order of their numbers."""
    found, first = [], 0
    for edge in [*sorted(plan.skipped), plan.full_chunk]:
        if edge > first:
            found.append(_chunk(first, edge - first, plan.rows_per_chunk, ROW_LENGTH))
        if edge != plan.full_chunk:
            skipped = {"skipped": True, "note": "Skipped: the loss became NaN on its first rows."}
            found.append({**_chunk(edge, 1, plan.rows_per_chunk, ROW_LENGTH), **skipped})
        first = edge + 1
    full = _chunk(plan.full_chunk, 1, FULL_ROWS_PER_STEP * FULL_STEPS, FULL_ROW_LENGTH)
    return [*found, {**full, "note": f"{FULL_STEPS} batches of Amber's real size."}]


def _chunk(first: int, count: int, rows: int, row_length: int) -> dict[str, Any]:
    return {
        "names": {"pattern": "train_{index:03d}", "first": first, "count": count},
        "files": [{"path": "data/train_{index:03d}.u16"}],
        "format": "flat",
        "dtype": "u16",
        "rows": rows,
        "row_length": row_length,
        "sources": dict(SHARES),
    }


def _orders(plan: Plan) -> list[dict[str, Any]]:
    last = {
        "first_step": plan.first_full_step,
        "last_step": plan.last_step,
        "chunks": [f"train_{plan.full_chunk:03d}"],
        "kind": "sequential",
        "confidence": "exact",
    }
    return [*(_order(reading, plan) for reading in plan.readings()), last]


def _order(reading: Reading, plan: Plan) -> dict[str, Any]:
    return {
        "first_step": reading.first_step,
        "last_step": reading.last_step,
        "chunks": {"pattern": "train_{index:03d}", "first": reading.first_chunk, "count": reading.chunks},
        "kind": "permutation",
        "rng": "numpy-RandomState",
        "seed": reading.seed,
        "per_chunk": True,
        "steps_per_chunk": plan.steps_per_chunk,
        "confidence": "reconstructed",
        "assumption": "as for Amber: the process restarted at every chunk",
        "repeats": "Read a second time, in another shuffle." if reading.again else "",
    }


def _metrics() -> list[dict[str, Any]]:
    series = {
        name: {"column": name, "group": group, "unit": unit, "reduction": f"{reduction}; made up"}
        for name, (group, unit, reduction) in amber_numbers.DEFINITIONS.items()
    }
    scores = {
        name: {"column": name, "group": "eval", "unit": "%", "reduction": "at every checkpoint; made up"}
        for name in amber_numbers.EVALUATIONS
    }
    return [{"file": "metrics/train.parquet", "series": series}, {"file": "metrics/evals.parquet", "series": scores}]


def _events(plan: Plan) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for chunk, step in plan.skipped_at().items():
        name = f"train_{chunk:03d}"
        note = f"The loss became NaN on {name}; the log shows the attempt that was thrown away."
        events.append({"step": step, "kind": "nan_loss", "chunk": name, "note": note})
        events.append({"step": step, "kind": "chunk_skipped", "chunk": name, "note": f"{name} was left out."})
    for step in plan.garbled:
        events.append(
            {"step": step, "kind": "spike", "note": "The rows of this step are noise.", "evidence": "Its tokens."}
        )
    for step in plan.overflows:
        events.append({"step": step, "kind": "note", "note": "The gradient norm is infinite at this step."})
    for reading in (r for r in plan.readings() if r.again):
        first, last = reading.first_chunk, reading.first_chunk + reading.chunks - 1
        note = f"train_{first:03d} to train_{last:03d} are read a second time."
        events.append(
            {"step": reading.first_step, "last_step": reading.last_step, "kind": "chunk_repeated", "note": note}
        )
    full = plan.first_full_step
    events.append({"step": full, "kind": "stage_change", "note": "From here on batches have Amber's real size."})
    events.append(
        {
            "step": full + 1,
            "kind": "spike",
            "note": "Two in five rows of this step are noise.",
            "evidence": "Its tokens.",
        }
    )
    return sorted(events, key=lambda event: int(event["step"]))


def _write_yaml(path: Path, value: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
