"""What unmodified clients are told of demo/tiny, and how their calls are made."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from tokenizers import Tokenizer

from portal.demo.build import TINY
from portal.demo.tiny_data import PAD_ID
from tests.clients import environments
from tests.conftest import REPOSITORY, missing

RUN = "demo/tiny"


def about(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file, as a manifest states them."""
    return {"size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def facts_of(address: str) -> dict[str, Any]:
    """What clients have to find out about demo/tiny at a portal."""
    manifest = yaml.safe_load((TINY / "release.yaml").read_text())
    chunks = {c["name"]: c for c in manifest["data"]["chunks"]}
    with (TINY / "metrics" / "train.csv").open() as file:
        loss = {row["step"]: float(row["loss"]) for row in csv.DictReader(file)}
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    texts = ["the fox said 12 + 30 = 42", "def add(a, b):\n    return a + b\n"]
    return {
        "address": address,
        "run": RUN,
        "weights": {
            str(int(folder.name[-4:])): about(folder / "model.safetensors")
            for folder in sorted((TINY / "checkpoints").iterdir())
        },
        "parameters": manifest["model"]["parameters"],
        "vocabulary": tokenizer.get_vocab_size(),
        "encoded": {text: tokenizer.encode(text).ids for text in texts},
        "padding": PAD_ID,
        "loss": {"301": loss["301"]},
        "batches": {str(step): _rows(address, step) for step in (301, 550)},
        "chunk_rows": {name: c["rows"] for name, c in chunks.items()},
        "loadable_rows": sum(c["rows"] for c in chunks.values() if c["format"] == "jsonl"),
    }


def _rows(address: str, step: int) -> list[dict[str, Any]]:
    rows = httpx.get(f"{address}/api/v1/runs/{RUN}/steps/{step}/tokens?count=1000").json()["rows"]
    return [{k: row[k] for k in ("position", "chunk", "row", "token_ids")} for row in rows]


def make_calls(name: str, facts: dict[str, Any], folder: Path, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """What each call of a set of clients at ``facts["endpoint"]`` came to, by its name; all of them, or ``only`` some."""
    python = environments.python_of(name)
    if python is None:
        missing(f"The environment of {name} Hub clients", "python -m tests.clients.environments")
        return {}
    (folder / "facts.json").write_text(json.dumps(facts))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "HF_ENDPOINT": facts["endpoint"],
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_COLOR": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [str(python), "-m", "tests.clients.calls", str(folder / "facts.json"), *only]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    lines = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("CALL ")]
    assert done.returncode == 0, done.stderr[-3000:]
    return {line["call"]: line for line in lines}
