"""How attempts are run: one module per engine behind one protocol, one line each in `EXECUTORS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from portal.errors import UsageError
from portal.worker.executors.placed import (
    Capacity,
    EngineBusy,
    EngineRefused,
    EngineState,
    Executor,
    Placed,
    Task,
)
from portal.worker.executors.process import ProcessExecutor
from portal.worker.executors.ray import RayExecutor
from portal.worker.executors.slurm import SlurmExecutor

__all__ = [
    "EXECUTORS",
    "Capacity",
    "EngineBusy",
    "EngineRefused",
    "EngineState",
    "Executor",
    "Placed",
    "Task",
    "open_executor",
]

EXECUTORS: dict[str, Callable[[Path, int | None, Mapping[str, str]], Executor]] = {
    "process": ProcessExecutor.of,
    "slurm": SlurmExecutor.of,
    "ray": RayExecutor.of,
}
"""Name -> maker of (folder of all attempts, GPUs that were declared or None, the engine's own options)."""


def open_executor(name: str, attempts: Path, gpus: int | None, options: Mapping[str, str]) -> Executor:
    """The executor of this name; UsageError for an unknown name or option."""
    if name not in EXECUTORS:
        raise UsageError(f"There is no executor {name!r}.", f"It is one of {', '.join(EXECUTORS)}.")
    return EXECUTORS[name](attempts, gpus, options)
