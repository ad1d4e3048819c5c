"""The trainer as a process: started once per attempt, found again by a runner that was started anew, stopped, killed.

The trainer writes its log to a file and its exit code is written by a shell above it, so a runner can die and come
back without the trainer or the portal noticing.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import portal
from portal.worker.executors.identity import Identity, identify, reap, signal_group
from portal.worker.executors.launch import SPOOL_VARIABLE
from portal.worker.spool import LOG, Json, Lease, Spool
from portal.worker.surroundings import clean_environment

PROCESS = "trainer-process.json"
EXIT = "trainer-exit"
MODULE = "portal.trainer"
TRAINERS = {MODULE}
"""Trainers that this worker runs; a job names one of them and never a command."""
KILLED = 128 + int(signal.SIGKILL)


class TrainerProcess:
    """The trainer of one attempt, in a process group of its own."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        found = spool.read(PROCESS)
        self._process = Identity(**found) if found else None

    @property
    def begun(self) -> bool:
        """True once it was started, by this process or an earlier one."""
        return self._process is not None or self._exit_code() is not None

    def start(self, lease: Lease) -> None:
        """Start it."""
        folder = self._spool.folder
        script = (
            f"cd {shlex.quote(str(folder))} || exit 72; trap : TERM INT; "
            f"{shlex.join(trainer_command(lease, folder))}; code=$?; "
            f"echo $code > {EXIT}.tmp && mv {EXIT}.tmp {EXIT}; exit $code"
        )
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder / LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        environment = trainer_environment(lease, folder)
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], environment, file_actions=actions, setpgroup=0)
        self._process = identify(pid) or Identity(pid, -1.0, "")
        self._spool.write(PROCESS, vars(self._process).copy())

    def poll(self) -> int | None:
        """Its exit code, 128 + signal where one ended it; None while it runs."""
        if self._process is not None:
            reap(self._process.pid)
        code = self._exit_code()
        if code is not None:
            return code
        if self._process is None or self._process.alive:
            return None
        code = self._exit_code()  # written between the two looks
        return KILLED if code is None else code

    def terminate(self) -> None:
        """Ask it to save and stop after the step it is in."""
        if self._process is not None and self._process.alive:
            signal_group(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it now."""
        if self._process is not None and self._process.alive:
            signal_group(self._process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """The last line of its log, for a message."""
        try:
            with self._spool.path(LOG).open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - 8192, 0))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return ""
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return "".join(c if c.isprintable() else "�" for c in last)[:1000]

    def _exit_code(self) -> int | None:
        try:
            return int(self._spool.path(EXIT).read_text("ascii"))
        except (FileNotFoundError, ValueError):
            return None


def trainer_command(lease: Lease, folder: Path) -> list[str]:
    """What runs: one process, or one per GPU under the trainer's own launcher, which keeps its exit codes."""
    processes = ["--processes", str(lease.gpus)] if lease.gpus > 1 else []
    return [lease.python, "-m", MODULE, *processes, str(folder / "trainer.json")]


def trainer_environment(lease: Lease, folder: Path) -> dict[str, str]:
    """A clean environment with what exact results need; no token of the portal's is in it."""
    threads = lease.spec["training"].get("numerics", {}).get("threads") or 1
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        **clean_environment(),
        "OMP_NUM_THREADS": str(threads),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        SPOOL_VARIABLE: str(folder),
    }
    if Path(lease.python).parent != Path(sys.executable).parent:
        # Another environment: it need not have the portal installed, whose trainer imports nothing else of it.
        environment["PYTHONPATH"] = str(Path(portal.__file__).parent.parent)
    return environment


def trainer_settings(spec: Json, rows: Json, resume: bool, gpus: int) -> Json:
    """trainer.json of an attempt."""
    return {
        "format": "llm360-portal/trainer/1",
        "checkpoint": "input/checkpoint",
        "first_step": spec["first_step"],
        "last_step": spec["last_step"],
        "rows": rows,
        "training": spec["training"],
        "save_every": spec.get("save_every"),
        "output": "output",
        "resume": "input/resume" if resume else None,
        "parallel": "ddp" if gpus > 1 else "none",
        "device": "cuda" if gpus else "cpu",
    }


def read_json(path: Path) -> dict[str, Any]:
    """What the trainer wrote for programs; empty where it did not."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
