"""The worker that the demo attaches to itself, where this machine has what training needs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portal.catalog.accounts import create_token, find_caller
from portal.cli.terminal import complain
from portal.database import Engine, open_session
from portal.settings import Settings
from portal.worker.surroundings import clean_environment

_CAN_TRAIN = "import sys; from importlib.util import find_spec as f; sys.exit(not (f('torch') and f('transformers')))"
_PATIENCE_S = 60


def training_python() -> str | None:
    """An interpreter that has torch and transformers: this one, or that of ``make trainer``; None where there is none."""
    for python in (Path(sys.executable), Path(sys.prefix) / "trainer" / "bin" / "python"):
        if python.exists() and subprocess.run([python, "-c", _CAN_TRAIN], check=False).returncode == 0:
            return str(python)
    return None


@contextmanager
def attached_worker(settings: Settings, engine: Engine, address: str, python: str) -> Iterator[None]:
    """A worker process beside the portal at ``address``; it goes on next time with what it was at when the portal stops."""
    folder = settings.data.absolute() / "worker"
    folder.mkdir(parents=True, exist_ok=True)
    secret = kept_token(engine, "worker", folder / "token")
    command = [sys.executable, "-m", "portal", "worker", "--url", address, "--name", "demo", "--work", str(folder)]
    with (folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen(
            [*command, "--python", python, "--gpus", "0"],
            # Not in the command line, which every user of this machine can read.
            env=clean_environment() | {"PORTAL_TOKEN": secret},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C is for the portal, which then ends it.
            start_new_session=True,
        )
    try:
        yield
    finally:
        _end(worker)


def kept_token(engine: Engine, role: str, file: Path) -> str:
    """The token that ``file`` keeps, as long as it is good (with it a worker is the same worker to the portal), or a new
    one, which only the owner of ``file`` may read."""
    if file.exists():
        secret = file.read_text("ascii")
        with open_session(engine) as session:
            if find_caller(session, secret) is not None:
                return secret
        file.unlink()
    secret, _ = create_token(engine, role)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(secret)
    return secret


def _end(worker: subprocess.Popen[bytes]) -> None:
    """The first signal takes no more jobs, the second saves those that run."""
    for patience in (2, _PATIENCE_S):
        if patience > 2:
            complain("The worker saves the job it is at; Ctrl-C again ends at once.")
        worker.terminate()
        try:
            worker.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        return
    worker.kill()
    worker.wait()
