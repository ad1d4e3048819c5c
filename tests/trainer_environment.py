"""The virtual environment that runs the trainer: ``make trainer`` builds it.

It stands in ``.venv/trainer`` and has torch and transformers; the portal's own environment has neither, so that tests
show whether serving needs them.
"""

from __future__ import annotations

from pathlib import Path

from tests.conftest import REPOSITORY, missing

FOLDER = REPOSITORY / ".venv" / "trainer"


def trainer_python() -> Path:
    """The interpreter that runs ``-m portal.trainer`` (from the top of the checkout); skips where it was not built."""
    if not is_built():
        missing("The trainer's environment", "make trainer")
    return FOLDER / "bin" / "python"


def is_built() -> bool:
    """Whether the environment is complete, and younger than what it was made from."""
    done, lock = FOLDER / "built", REPOSITORY / "requirements" / "trainer.txt"
    return done.is_file() and done.stat().st_mtime >= lock.stat().st_mtime
