"""Attempts as Slurm batch jobs, through Slurm's own commands alone.

Job ids are not trusted: a controller that lost its state gives one out twice. A job is known by its name, which is
the task's, and its end by the exit file that the task's script leaves in the spool. The command runs in an ``srun``
step, because only steps are warned before a time limit or a preemption. The portal retries; Slurm does not requeue.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from portal.errors import Unavailable, UsageError
from portal.worker.executors.launch import exit_state, write_script
from portal.worker.executors.placed import Capacity, EngineRefused, EngineState, Kind, Placed, Task, refuse_unknown
from portal.worker.surroundings import clean_environment

PROGRAMS = ("sbatch", "squeue", "scancel", "sinfo", "srun")
TIMEOUT = 30.0
"""Seconds after which a command of Slurm's is given up: its controller does not answer."""
MISS_SECONDS = 30.0
"""A job that the controller does not list is looked for again after this time before it counts as gone."""
WARNING = 120
"""Seconds before its time limit at which a step is told to save; Slurm does it up to a minute earlier."""
SHORT = 600
"""A job of so many seconds is allowed those of the warning on top: it would be most of its time."""

_KINDS: dict[str, Kind] = {
    "PENDING": "pending",
    "CONFIGURING": "pending",
    "REQUEUED": "pending",
    "REQUEUE_HOLD": "pending",
    "REQUEUE_FED": "pending",
    "SPECIAL_EXIT": "pending",
    "RESV_DEL_HOLD": "pending",
    "RUNNING": "running",
    "COMPLETING": "running",
    "RESIZING": "running",
    "SIGNALING": "running",
    "STAGE_OUT": "running",
    "STOPPED": "running",
    "SUSPENDED": "running",
    "COMPLETED": "exited",
    "FAILED": "exited",
    "OUT_OF_MEMORY": "exited",
    "CANCELLED": "cancelled",
    "DEADLINE": "cancelled",
    "PREEMPTED": "cancelled",
    "REVOKED": "cancelled",
    "TIMEOUT": "cancelled",
    "BOOT_FAIL": "node_lost",
    "NODE_FAIL": "node_lost",
}
_GPUS = re.compile(r"gpu(?::[^:(,]+)?:(\d+)")
_OPTIONS = {
    "partition": "partition that jobs go to",
    "account": "account they are charged to",
    "qos": "quality of service",
    "constraint": "features of nodes",
    "cpus": "CPUs of a job, default 1",
    "gres": "name of a GPU, default gpu, e.g. gpu:a100",
}


@dataclass(frozen=True)
class _Job:
    """One line of squeue."""

    id: str
    state: str
    status: str
    """Wait status: the exit code times 256, or the signal."""
    reason: str
    nodes: str
    name: str


class SlurmExecutor:
    """A Slurm cluster, as the user that this process runs as."""

    name = "slurm"
    look_seconds = 2.0

    def __init__(
        self,
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        miss_seconds: float = MISS_SECONDS,
    ) -> None:
        self._options = dict(options or {})
        self._environment = {**clean_environment(), **(environment or {})}
        self._miss_seconds = miss_seconds
        self._missed: dict[str, float] = {}
        self._deadlines: dict[str, float] = {}

    @classmethod
    def of(cls, attempts: Path, gpus: int | None, options: Mapping[str, str]) -> SlurmExecutor:  # noqa: ARG003
        """From the command line's words; UsageError where Slurm's commands are missing."""
        refuse_unknown("slurm", options, _OPTIONS)
        if absent := [name for name in PROGRAMS if shutil.which(name) is None]:
            raise UsageError(
                f"The commands {', '.join(absent)} are not on the PATH.",
                "Start the worker where jobs are submitted from.",
            )
        if not options.get("cpus", "1").isdigit():
            raise UsageError(f"cpus={options['cpus']} is no number.", "Write e.g. cpus=8.")
        return cls(options)

    def submit(self, task: Task) -> Placed:
        """Queue it; EngineRefused for what no node of the cluster can run."""
        if found := self.find(task):
            return found
        write_script(task)
        (task.spool / "batch.sh").write_text(
            "#!/bin/sh\n"
            f"srun --ntasks=1 --mpi=none --export=ALL /bin/sh {shlex.quote(str(task.spool / 'launch.sh'))}\n"
            "exit $?\n",
            encoding="utf-8",
        )
        command = ["sbatch", "--parsable", *self._arguments(task), str(task.spool / "batch.sh")]
        done = self._run(command)
        if done.returncode:
            said = done.stderr.strip().removeprefix("sbatch: error: ")
            if _unreachable(said):
                raise Unavailable(f"Slurm does not answer: {said}", "It is tried again.")
            raise EngineRefused(f"Slurm refuses the job: {said}", "Ask for less, or choose another worker.")
        return Placed(task.name, task.spool, done.stdout.strip().partition(";")[0])

    def find(self, task: Task) -> Placed | None:
        """By its name among all jobs of this user, or by its exit file."""
        jobs = [job for job in self._jobs(task.name) if job.name == task.name]
        if jobs:
            return Placed(task.name, task.spool, jobs[-1].id)
        return Placed(task.name, task.spool, "ended") if exit_state(task.spool) else None

    def poll(self, placed: Sequence[Placed]) -> dict[str, EngineState]:
        """One question for all jobs; exit files first."""
        states = {p.name: state for p in placed if (state := exit_state(p.spool))}
        left = [p for p in placed if p.name not in states]
        if left:
            try:
                jobs = self._jobs()
            except Unavailable as error:
                return states | {p.name: EngineState("unknown", None, error.message) for p in left}
            by_name: dict[str, list[_Job]] = {}
            for job in jobs:
                by_name.setdefault(job.name, []).append(job)
            for each in left:
                states[each.name] = self._state(each, by_name.get(each.name, []))
        self._enforce(placed, states)
        return states

    def cancel(self, placed: Placed, grace: float) -> None:
        """A job that waits ends at once; the step of a running one is told to stop, and Slurm ends it after ``grace``."""
        if grace > 0:
            self._scancel(placed.name, "--state=PENDING")
            self._scancel(placed.name, "--signal=TERM")
            self._deadlines.setdefault(placed.name, time.monotonic() + grace)
        else:
            self._scancel(placed.name)

    def capacity(self) -> Capacity:
        """GPUs of nodes that take jobs. Slurm queues by itself, so slots are not counted."""
        arguments = [f"--partition={self._options['partition']}"] if "partition" in self._options else []
        done = self._run(["sinfo", "-h", "-N", *arguments, "-O", "NodeList:|,Gres:|,GresUsed:|,StateLong:|"])
        if done.returncode:
            raise Unavailable(f"Slurm does not answer: {done.stderr.strip()}", "It is asked again.")
        free: dict[str, tuple[int, int]] = {}
        for line in done.stdout.splitlines():
            node, gres, used, state = (line.split("|") + [""] * 4)[:4]
            if not re.match(r"(idle|mixed|allocated|completing)\b(?!.*[*$#~%])", state):
                continue
            total = sum(map(int, _GPUS.findall(gres)))
            free[node] = (max(total - sum(map(int, _GPUS.findall(used))), 0), total)
        return Capacity(sum(f for f, _ in free.values()), sum(t for _, t in free.values()))

    def close(self) -> None:
        """Nothing is held."""

    def _arguments(self, task: Task) -> list[str]:
        options = self._options
        asked: dict[str, str] = {
            "job-name": task.name,
            "comment": task.name.replace("-", ":", 1),
            "chdir": str(task.spool),
            "output": str(task.spool / "engine.log"),
            "open-mode": "append",
            "cpus-per-task": options.get("cpus", str(task.cpus)),
            "ntasks": "1",
            "nodes": "1",
            **{name: options[name] for name in ("partition", "account", "qos", "constraint") if name in options},
        }
        if task.gpus:
            asked["gres"] = f"{options.get('gres', 'gpu')}:{task.gpus}"
        if task.memory:
            asked["mem"] = f"{math.ceil(task.memory / 2**20)}M"
        if task.seconds:
            # The runner keeps the job's time; this limit is for runners that hang. Partitions have limits of hours.
            more = WARNING + 60 if task.seconds <= SHORT else 0
            asked["time"] = str(math.ceil((task.seconds + more) / 60))
            asked["signal"] = f"TERM@{WARNING}"
        return ["--no-requeue", *(f"--{name}={value}" for name, value in asked.items())]

    def _state(self, placed: Placed, jobs: list[_Job]) -> EngineState:
        if not jobs:
            return self._absent(placed)
        self._missed.pop(placed.name, None)
        # The same name twice is a job that was forgotten and submitted again: the one that is not over counts.
        job = next((j for j in jobs if _KINDS.get(j.state) in ("pending", "running")), jobs[-1])
        kind = _KINDS.get(job.state, "unknown")
        if kind != "exited":
            return EngineState(kind, None, job.reason if job.reason != "None" else job.nodes)
        if ended := exit_state(placed.spool):
            return ended
        status = int(job.status) if job.status.isdigit() else 1 << 8
        code = status >> 8 or (128 + (status & 127) if status & 127 else 0)
        if job.state == "OUT_OF_MEMORY":
            code = code or 137
        return EngineState("exited", code, job.reason)

    def _absent(self, placed: Placed) -> EngineState:
        """A job that the controller does not list: accounting may know it; else it is gone after a second look."""
        first = self._missed.setdefault(placed.name, time.monotonic())
        if time.monotonic() - first < self._miss_seconds:
            return EngineState("unknown", None, "Slurm does not list the job; it is looked for again")
        if ended := exit_state(placed.spool) or self._accounted(placed.name):
            return ended
        return EngineState("gone", None, "Slurm does not know the job")

    def _accounted(self, name: str) -> EngineState | None:
        if shutil.which("sacct") is None:
            return None
        done = self._run(["sacct", "-X", "-n", "-P", f"--name={name}", "-S", "now-30days", "-o", "State,ExitCode"])
        line = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else []
        if not line:
            return None
        state, _, code = line[0].partition("|")
        kind = _KINDS.get(state.split()[0] if state else "", "unknown")
        if kind not in ("exited", "cancelled", "node_lost"):
            return None
        exited, _, by_signal = code.partition(":")
        number = int(exited or 0) or (128 + int(by_signal) if by_signal.isdigit() and int(by_signal) else 0)
        return EngineState(kind, number if kind == "exited" else None, state)

    def _enforce(self, placed: Sequence[Placed], states: Mapping[str, EngineState]) -> None:
        for each in placed:
            deadline = self._deadlines.get(each.name)
            if deadline is None:
                continue
            if states[each.name].ended:
                del self._deadlines[each.name]
            elif time.monotonic() > deadline:
                self._scancel(each.name)

    def _scancel(self, name: str, *arguments: str) -> None:
        """By name, never by id alone: an id may have been given to somebody else's job."""
        done = self._run(["scancel", "--me", f"--name={name}", *arguments])
        if done.returncode and _unreachable(done.stderr):
            raise Unavailable(f"Slurm does not answer: {done.stderr.strip()}", "It is tried again.")

    def _jobs(self, name: str = "") -> list[_Job]:
        named = [f"--name={name}"] if name else []
        columns = "jobid:|,state:|,exit_code:|,reason:|,nodelist:|,name:|"
        done = self._run(["squeue", "-h", "-a", "-t", "all", "--me", *named, "-O", columns])
        if done.returncode:
            raise Unavailable(f"Slurm does not answer: {done.stderr.strip()}", "It is asked again.")
        rows = [line.split("|")[:6] for line in done.stdout.splitlines()]
        return [_Job(*row) for row in rows if len(row) == 6]

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
                check=False,
            )
        except (subprocess.TimeoutExpired, OSError) as error:
            raise Unavailable(f"{command[0]} does not answer: {error}.", "It is tried again.") from None


def _unreachable(said: str) -> bool:
    """Whether a refusal comes from a controller that is away rather than from its rules."""
    words = (
        "unable to contact",
        "connection refused",
        "timed out",
        "communication",
        "munge",
        "not respond",
        "zero bytes",
    )
    return any(word in said.lower() for word in words)
