"""Training: tokens per second of the trainer against a plain transformers and torch loop over the same model and rows."""

from __future__ import annotations

import os
import subprocess

from tests.conftest import REPOSITORY
from tests.trainer_environment import FOLDER, is_built


def main() -> None:
    """Print one line per precision; run where torch is, which the portal's own environment is not."""
    if not is_built():
        print("the trainer's environment is missing: make trainer")
        return
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([FOLDER / "bin" / "python", "-m", "tests.bench._trainer"], check=True, env=environment)
