"""Attempts as processes of this machine, each in a session of its own, with GPUs handed out one by one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from portal.errors import UsageError
from portal.worker.executors.identity import Identity, boot_id, identify, kill_all, processes_of, reap, signal_group
from portal.worker.executors.launch import SPOOL_VARIABLE, exit_state, was_started, write_script
from portal.worker.executors.placed import (
    Capacity,
    EngineBusy,
    EngineRefused,
    EngineState,
    Placed,
    Task,
    refuse_unknown,
)
from portal.worker.surroundings import clean_environment

RECORD = "process.json"


@dataclass(frozen=True)
class _Record:
    """What is kept of a started task in its spool; without a pid between choosing GPUs and noting the process."""

    name: str
    gpus: list[int]
    process: Identity | None = None
    stopping: bool = False


class ProcessExecutor:
    """This machine. ``attempts`` is the folder that all spools lie in: what runs is read from there."""

    name = "process"
    look_seconds = 0.4

    def __init__(self, attempts: Path, gpus: int = 0, slots: int | None = None) -> None:
        self._attempts = attempts
        self._gpus = gpus
        self._slots = slots if slots is not None else max(gpus, 1)
        self._deadlines: dict[str, float] = {}
        self._swept: set[Path] = set()

    @classmethod
    def of(cls, attempts: Path, gpus: int | None, options: Mapping[str, str]) -> ProcessExecutor:
        """From the command line's words."""
        refuse_unknown("process", options, {"slots": "attempts that run at the same time"})
        slots = options.get("slots")
        if slots is not None and not (slots.isdigit() and int(slots)):
            raise UsageError(f"slots={slots} is no number of attempts.", "Write e.g. slots=2.")
        return cls(attempts, count_gpus() if gpus is None else gpus, None if slots is None else int(slots))

    def submit(self, task: Task) -> Placed:
        """Start it; EngineBusy without a free slot or GPU, EngineRefused for more GPUs than there are."""
        if found := self.find(task):
            return found
        gpus = self._choose(task)
        record = _Record(task.name, gpus)
        _write(task.spool, record)
        script = write_script(task)
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus)), SPOOL_VARIABLE: str(task.spool)}
        log = str(task.spool / "engine.log")
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        environment = {**clean_environment(), **visible}
        pid = os.posix_spawn("/bin/sh", ["sh", str(script)], environment, file_actions=actions, setsid=True)
        process = identify(pid) or Identity(pid, -1.0, boot_id())  # it may have ended already
        _write(task.spool, _Record(task.name, gpus, process))
        return Placed(task.name, task.spool, str(pid))

    def find(self, task: Task) -> Placed | None:
        """By the record in its spool, or by the name that its processes carry."""
        record = _read(task.spool)
        if record is None:
            return None
        if record.process is not None:
            return Placed(task.name, task.spool, str(record.process.pid))
        leader = next((p for p in processes_of(task.spool) if os.getsid(p.pid) == p.pid), None)
        process = leader and identify(leader.pid)
        if process is not None:
            _write(task.spool, _Record(task.name, record.gpus, process))
            return Placed(task.name, task.spool, str(process.pid))
        return Placed(task.name, task.spool, "ended") if was_started(task.spool) else None

    def poll(self, placed: Sequence[Placed]) -> dict[str, EngineState]:
        """Exit files first, then processes; those whose time to stop is over are ended here."""
        return {each.name: self._state(each) for each in placed}

    def cancel(self, placed: Placed, grace: float) -> None:
        """SIGTERM to its session now, SIGKILL to all that is left of it after ``grace``."""
        record = _read(placed.spool)
        if record is None:
            return
        _write(placed.spool, _Record(record.name, record.gpus, record.process, stopping=True))
        if grace <= 0:
            kill_all(placed.spool)
            return
        self._deadlines.setdefault(placed.name, time.monotonic() + grace)
        if record.process is not None and record.process.alive:
            signal_group(record.process.pid, signal.SIGTERM)

    def capacity(self) -> Capacity:
        """GPUs and slots that no living task holds."""
        running = self._running()
        used = sum(len(record.gpus) for record in running)
        return Capacity(max(self._gpus - used, 0), self._gpus, max(self._slots - len(running), 0))

    def close(self) -> None:
        """Nothing is held."""

    def _state(self, placed: Placed) -> EngineState:
        record = _read(placed.spool)
        process = record.process if record is not None else None
        if process is not None:
            reap(process.pid)
        if ended := exit_state(placed.spool):
            self._sweep(placed.spool)
            return ended
        if process is not None and process.boot != boot_id():
            return EngineState("node_lost", None, "this machine was started anew")
        if process is not None and process.alive:
            deadline = self._deadlines.get(placed.name)
            if deadline is not None and time.monotonic() > deadline:
                kill_all(placed.spool)
            return EngineState("running")
        if ended := exit_state(placed.spool):  # written between the two looks
            return ended
        self._sweep(placed.spool)
        if record is not None and record.stopping:
            return EngineState("cancelled")
        return EngineState("gone", None, "its process ended without leaving an exit code")

    def _sweep(self, spool: Path) -> None:
        """End, once, what a killed runner left behind: it would hold the GPU."""
        if spool not in self._swept:
            self._swept.add(spool)
            kill_all(spool)

    def _choose(self, task: Task) -> list[int]:
        if task.gpus > self._gpus:
            raise EngineRefused(
                f"{task.gpus} GPUs are wanted; this worker has {self._gpus}.", "Attach a worker with more --gpus."
            )
        running = self._running()
        if len(running) >= self._slots:
            raise EngineBusy(f"All {self._slots} slots of this worker are in use.", "It waits for one to end.")
        taken = {gpu for record in running for gpu in record.gpus}
        free = [gpu for gpu in range(self._gpus) if gpu not in taken]
        if task.gpus > len(free):
            raise EngineBusy(f"{task.gpus} GPUs are wanted, {len(free)} are free.", "It waits for others to end.")
        return free[: task.gpus]

    def _running(self) -> list[_Record]:
        """Records of all tasks whose process lives, those of an earlier agent as well."""
        return [
            r for path in self._attempts.glob(f"*/{RECORD}") if (r := _read(path.parent)) and _lives(r, path.parent)
        ]


def count_gpus() -> int:
    """GPUs that the driver shows; 0 without one."""
    if shutil.which("nvidia-smi") is None:
        return 0
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) or len(
        [p for p in Path("/dev").glob("nvidia[0-9]*") if p.name[6:].isdigit()]
    )


def _lives(record: _Record, spool: Path) -> bool:
    if exit_state(spool) is not None:
        return False
    if record.process is not None:
        return record.process.alive
    return any(True for _ in processes_of(spool))


def _read(spool: Path) -> _Record | None:
    try:
        found = json.loads((spool / RECORD).read_text("utf-8"))
        process = found["process"]
        return _Record(
            found["name"], found["gpus"], None if process is None else Identity(**process), bool(found["stopping"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(spool: Path, record: _Record) -> None:
    path = spool / RECORD
    part = path.with_suffix(".tmp")
    with suppress(FileNotFoundError):  # the spool of an ended attempt may be gone
        part.write_text(json.dumps(asdict(record)), encoding="utf-8")
        part.replace(path)
