"""Virtual environments of unmodified Hub clients: ``python -m tests.clients.environments`` builds them.

They stand in ``.venv/clients`` and share nothing with the portal; old and new clients exclude each other. Versions and
hashes come from ``requirements/clients-*.txt``; torch is installed apart, as its builds for one version have many hashes.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
FOLDER = REPOSITORY / ".venv" / "clients"
SETS = ("new", "old")
TORCH = "torch==2.13.0"


def python_of(name: str) -> Path | None:
    """The interpreter of a complete and current environment; None where it has to be built."""
    done = FOLDER / name / "built-from"
    if not done.is_file() or done.read_text() != _wanted(name):
        return None
    return FOLDER / name / "bin" / "python"


def build(name: str) -> Path:
    """Make the environment anew: about 1 GB, mostly torch."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    uv = Path(sys.executable).parent / "uv"
    python = folder / "bin" / "python"
    lock = REPOSITORY / "requirements" / f"clients-{name}.txt"
    for command in (
        [uv, "venv", "--quiet", "--seed", "--python", sys.executable, folder],
        [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock],
        [python, "-m", "pip", "install", "--quiet", TORCH],
    ):
        subprocess.run(command, check=True)
    (folder / "built-from").write_text(_wanted(name))
    return python


def _wanted(name: str) -> str:
    lock = (REPOSITORY / "requirements" / f"clients-{name}.txt").read_bytes()
    return f"{hashlib.sha256(lock).hexdigest()} {TORCH} {sys.version_info[:2]}\n"


if __name__ == "__main__":
    for each in SETS:
        if python_of(each) is None:
            sys.stderr.write(f"Building the environment of {each} clients\n")
            build(each)
