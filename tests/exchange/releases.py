"""A small release folder with everything a run can have, for tests of publishing."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROWS = 40
ROW_LENGTH = 8


def write_release(folder: Path, run: str = "lab/small", **changes: Any) -> Path:
    """20 steps of 4 rows, checkpoints every 5 steps, two jsonl chunks; ``changes`` replace keys of the manifest."""
    rng = np.random.default_rng(3)
    for step in range(5, 21, 5):
        checkpoint = folder / "checkpoints" / f"step-{step}"
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / "model.safetensors").write_bytes(safetensors(rng.bytes(64)))
        (checkpoint / "optimizer.bin").write_bytes(rng.bytes(200))
        (checkpoint / "rng.json").write_text("[1]")
        (checkpoint / "trainer_state.json").write_text("{}")
    (folder / "data").mkdir(exist_ok=True)
    for k in range(2):
        rows = rng.integers(0, 100, (ROWS, ROW_LENGTH)).tolist()
        lines = [json.dumps({"token_ids": row, "source": f"s{k}"}) for row in rows]
        (folder / "data" / f"part_{k}.jsonl").write_text("\n".join(lines) + "\n")
    steps = [f"{s},{4 - s / 10:.3f},{'nan' if s == 7 else 1.5}" for s in range(1, 21)]
    (folder / "train.csv").write_text("step,loss,grad_norm\n" + "\n".join(steps) + "\n")
    (folder / "train.yaml").write_text("lr: 0.001\nlimit: .inf\n")
    (folder / "evals").mkdir(exist_ok=True)
    for step in (10, 20):
        result = {"results": {"arc": {"acc": step / 40, "acc_stderr": 0.01}}, "versions": {"arc": 0}}
        (folder / "evals" / f"step{step}.json").write_text(json.dumps(result))
    write_manifest(folder, run, **changes)
    return folder


def write_manifest(folder: Path, run: str = "lab/small", **changes: Any) -> None:
    """The manifest of `write_release`."""
    document = {
        "format": "llm360-portal/release/1",
        "run": run,
        "title": "A small run",
        "training": {"sequence_length": ROW_LENGTH, "row_length": ROW_LENGTH, "rows_per_step": 4, "last_step": 20},
        "cadence": 5,
        "checkpoints": [
            {
                "steps": {"first": 5, "every": 5, "count": 4},
                "labels": ["ckpt_{index:03d}"],
                "location": "checkpoints/step-{step}",
            }
        ],
        "data": {
            "chunks": [
                {"name": f"part_{k}", "files": [{"path": f"data/part_{k}.jsonl"}], "format": "jsonl"} for k in range(2)
            ],
            "order": [{"first_step": 1, "last_step": 20, "chunks": ["part_0", "part_1"], "kind": "sequential"}],
        },
        "metrics": [{"file": "train.csv"}],
        "configs": [{"file": "train.yaml"}],
        "evaluations": [{"file": "evals/*.json"}],
        "events": [{"step": 7, "kind": "note", "note": "looked at"}],
    }
    (folder / "release.yaml").write_text(yaml.safe_dump(document | changes))


def safetensors(content: bytes) -> bytes:
    """One bf16 tensor in the safetensors format."""
    entry = {"dtype": "BF16", "shape": [len(content) // 2], "data_offsets": [0, len(content)]}
    header = json.dumps({"weight": entry}).encode()
    return struct.pack("<Q", len(header)) + header + content


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes, the database itself left out."""
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base) / name
            if not name.startswith("portal.sqlite3"):
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found
