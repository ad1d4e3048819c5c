"""A run whose every byte lies elsewhere: sizes and digests are those its publisher states."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from sqlalchemy import Engine

from portal.exchange.publish import publish
from portal.settings import Settings
from tests.builders import ROW_LENGTH, ROWS_PER_STEP, VOCABULARY, byte_tokenizer
from tests.storage.places import Place

RUN = "lab/elsewhere"
STEPS = (10, 20)


@dataclass
class ElsewhereRun:
    """Chunks ``flat`` (steps 1 to 10) and ``lines`` (steps 11 to 20, whose line index nobody has), two checkpoints."""

    run: str
    rows: np.ndarray
    """uint16[80, 16], by step and row as in `tests.builders.SmallRun`."""
    uris: dict[str, str] = field(default_factory=dict)
    """By path."""
    bodies: dict[str, bytes] = field(default_factory=dict)

    def sha256(self, path: str) -> str:
        """Of the bytes at a path."""
        return hashlib.sha256(self.bodies[path]).hexdigest()

    def address(self, path: str) -> str:
        """Below a portal."""
        return f"/files/{self.sha256(path)}/{path.rsplit('/', 1)[-1]}"


def elsewhere_run(engine: Engine, settings: Settings, folder: Path, place: Place, stated: bool = True) -> ElsewhereRun:
    """Put the files at ``place`` and publish a manifest that names them; ``stated`` with size and sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(7).integers(0, 256, (80, ROW_LENGTH)).astype(np.uint16)
    made = ElsewhereRun(RUN, rows)
    made.bodies["flat.bin"] = rows[:40].tobytes()
    made.bodies["lines.jsonl"] = b"".join(json.dumps({"token_ids": r.tolist()}).encode() + b"\n" for r in rows[40:])
    for step in STEPS:
        tensors = {"embed": np.full((VOCABULARY, 4), step, np.float32), "head": np.zeros((4, 3), np.float16)}
        made.bodies[f"step{step}/model.safetensors"] = save(tensors)
        made.bodies[f"step{step}/config.json"] = json.dumps({"model_type": "llama", "step": step}).encode()
    made.bodies["tokenizer.json"] = byte_tokenizer().to_str().encode()
    made.uris = {path: place.put(path, body) for path, body in made.bodies.items()}

    def named(path: str, **more: Any) -> dict[str, Any]:
        told = {"size": len(made.bodies[path]), "sha256": made.sha256(path)} if stated else {}
        return {"path": made.uris[path], **told, **more}

    document = {
        "format": "llm360-portal/release/1",
        "run": RUN,
        "model": {"vocabulary": VOCABULARY},
        "tokenizer": made.uris["tokenizer.json"],
        "training": {
            "last_step": 20,
            "sequence_length": ROW_LENGTH,
            "row_length": ROW_LENGTH,
            "rows_per_step": ROWS_PER_STEP,
            "tokens_per_step": ROW_LENGTH * ROWS_PER_STEP,
        },
        "checkpoints": [
            {"step": step, "files": [named(f"step{step}/model.safetensors"), named(f"step{step}/config.json")]}
            for step in STEPS
        ],
        "data": {
            "chunks": [
                {"name": "flat", "files": [named("flat.bin")], "format": "flat", "dtype": "u16", "rows": 40},
                {"name": "lines", "files": [named("lines.jsonl")], "format": "jsonl", "rows": 40},
            ],
            "order": [{"first_step": 1, "last_step": 20, "chunks": ["flat", "lines"], "kind": "sequential"}],
        },
    }
    (folder / "release.json").write_text(json.dumps(document))
    publish(folder / "release.json", settings.model_copy(update=place.settings), engine)
    return made
