"""The virtual environment that runs the trainer: ``python -m tests.trainer_environment`` builds it.

It stands in ``.venv/trainer`` and has torch and transformers; the portal's own environment has neither, so that tests
show whether serving needs them. Versions and hashes come from ``requirements/trainer.txt``; torch is installed apart, as
its builds for one version have many hashes.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY, missing

FOLDER = REPOSITORY / ".venv" / "trainer"
TORCH = "torch==2.13.0"


def trainer_python() -> Path:
    """The interpreter that runs ``-m portal.trainer`` (from the top of the checkout); skips where it was not built."""
    if not is_built():
        missing("The trainer's environment", "python -m tests.trainer_environment")
    return FOLDER / "bin" / "python"


def is_built() -> bool:
    """Whether the environment is complete and what the requirements ask for now."""
    done = FOLDER / "built-from"
    return done.is_file() and done.read_text() == _wanted()


def build() -> None:
    """Make the environment anew: about 900 MB, mostly torch."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    python = FOLDER / "bin" / "python"
    lock = REPOSITORY / "requirements" / "trainer.txt"
    for command in (
        [uv, "venv", "--quiet", "--seed", "--python", sys.executable, FOLDER],
        [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock],
        [python, "-m", "pip", "install", "--quiet", TORCH],
    ):
        subprocess.run(command, check=True)
    (FOLDER / "built-from").write_text(_wanted())


def _wanted() -> str:
    lock = (REPOSITORY / "requirements" / "trainer.txt").read_bytes()
    return f"{hashlib.sha256(lock).hexdigest()} {TORCH} {sys.version_info[:2]}\n"


if __name__ == "__main__":
    if not is_built():
        sys.stderr.write("Building the trainer's environment\n")
        build()
