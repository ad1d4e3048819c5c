"""What the page of a checkpoint offers to copy, run as it stands there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.clients.calls import call

Facts = dict[str, Any]


@call
def snippets_for_python(facts: Facts) -> None:
    texts = [text for _, text in facts["snippets"] if text.startswith("import os")]
    assert [text.split("from ")[1].split()[0] for text in texts] == ["transformers", "datasets"]
    told = [
        "assert sum(p.numel() for p in model.parameters()) > 20000",
        "assert rows.num_rows == 16, rows",
    ]
    for text, check in zip(texts, told, strict=True):
        _run([sys.executable, "-c", f"{text}\n{check}"])


@call
def snippets_for_a_shell(facts: Facts) -> None:
    (line,) = (text for _, text in facts["snippets"] if " hf download " in text)
    assert "--revision step-300" in line
    # Older clients call the same command by its first name.
    name = "hf" if (Path(sys.executable).parent / "hf").exists() else "huggingface-cli"
    folder = _run(["bash", "-c", line.replace(" hf ", f" {name} ", 1)])
    assert "model.safetensors" in os.listdir(folder.strip().splitlines()[-1].strip().removeprefix("path: "))


def _run(command: list[str]) -> str:
    """Without an endpoint set outside: what is offered has to bring its own."""
    outside = {key: value for key, value in os.environ.items() if key != "HF_ENDPOINT"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{outside.get('PATH', '')}"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, cwd=folder, env={**outside, "PATH": path}, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, f"{command[-1]}: {done.stderr[-2000:]}"
    return done.stdout
