"""The three engines as the contract suite sees them: an executor, and how to make trouble with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from portal.worker.executors import EngineBusy, EngineState, Executor, Placed, Task
from portal.worker.executors.identity import kill_all, processes_of

WAIT = 60.0


@dataclass
class Engine:
    """An executor over a real engine."""

    name: str
    gpus: int
    """GPUs that can be had in all."""
    folder: Path
    open: Callable[[], Executor]
    """A further executor over the same engine, as an agent has that was started again."""
    vanish: Callable[[Placed], None]
    """End a running task so that the engine knows nothing of its end."""
    executor: Executor = field(init=False)
    tasks: list[Placed] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Open the first executor."""
        self.executor = self.open()

    def task(self, name: str, script: str, **asked: object) -> Task:
        """A task that runs ``script`` in a shell."""
        spool = self.folder / name
        spool.mkdir(parents=True)
        full = f"portal-{self.folder.name}-{name}"
        return Task(full, spool, ["sh", "-c", script], **asked)  # type: ignore[arg-type]

    def submit(self, task: Task) -> Placed:
        """Submit as an agent does: again while the engine is busy."""
        deadline = time.monotonic() + WAIT
        while True:
            try:
                placed = self.executor.submit(task)
            except EngineBusy:
                assert time.monotonic() < deadline, "the engine stayed busy"
                time.sleep(0.2)
            else:
                self.tasks.append(placed)
                return placed

    def state(self, placed: Placed) -> EngineState:
        """Its state now."""
        return self.executor.poll([placed])[placed.name]

    def wait(self, placed: Placed, until: Callable[[EngineState], bool]) -> EngineState:
        """The first state that ``until`` likes."""
        deadline = time.monotonic() + WAIT
        while not until(state := self.state(placed)):
            assert time.monotonic() < deadline, f"{placed.name} is still {state}"
            time.sleep(0.1)
        return state

    def ended(self, placed: Placed) -> EngineState:
        """How it ended."""
        return self.wait(placed, lambda state: state.ended)

    def wait_for_file(self, placed: Placed, name: str) -> None:
        """Wait until the task has written a file: its script has come that far."""
        deadline = time.monotonic() + WAIT
        while not (placed.spool / name).exists():
            assert time.monotonic() < deadline, f"{placed.name} never wrote {name}: {self.state(placed)}"
            time.sleep(0.05)

    def clean_up(self) -> None:
        """End what a test left running."""
        for placed in self.tasks:
            if (placed.spool / "exit").exists():
                continue
            with suppress(Exception):
                self.executor.cancel(placed, 0)
            kill_all(placed.spool)
        self.executor.close()


def kill_leaders(placed: Placed) -> None:
    """Kill a task's script and everything below it, as a machine without power would."""
    found = list(processes_of(placed.spool))
    scripts = [p for p in psutil.process_iter() if _runs(p, placed)]
    for process in [*scripts, *found]:
        with suppress(psutil.Error):
            process.kill()


def _runs(process: psutil.Process, placed: Placed) -> bool:
    with suppress(psutil.Error):
        return str(placed.spool / "launch.sh") in process.cmdline()
    return False
