"""Official verifiers in environments of their own, which share nothing with the portal.

They are built by uv from hash-locked lists under ``requirements`` into ``.venv/verifiers``, where they are kept.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.conftest import REPOSITORY, missing

FOLDER = REPOSITORY / ".venv" / "verifiers"


@cache
def verifier(name: str) -> Path:
    """``bin`` of the environment ``signatures`` or ``croissant``; skips the test where it was not built."""
    folder = FOLDER / name
    if not (folder / ".complete").is_file():
        missing(f"the verifiers of {name}", f"python -m tests.verifiers {name}")
    return folder / "bin"


def build(name: str) -> None:
    """Make the environment anew where its list changed since."""
    folder, wanted = FOLDER / name, REPOSITORY / "requirements" / f"verify-{name}.txt"
    done = folder / ".complete"
    if done.is_file() and done.read_bytes() == wanted.read_bytes():
        return
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
    python = str(folder / "bin" / "python")
    command = [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", str(wanted)]
    subprocess.run(command, check=True)
    shutil.copyfile(wanted, done)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ("signatures", "croissant"):
        build(chosen)
