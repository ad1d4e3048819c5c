"""Processes by an identity that outlives pids: pid, start time and boot."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from portal.worker.executors.launch import SPOOL_VARIABLE


@dataclass(frozen=True)
class Identity:
    """One process of this machine."""

    pid: int
    started: float
    """When it started: clock ticks since boot on Linux, which no clock adjustment moves; else seconds."""
    boot: str

    @property
    def alive(self) -> bool:
        """True while this very process runs; a dead one that nobody has waited for does not."""
        return self.boot == boot_id() and identify(self.pid) == self


def identify(pid: int) -> Identity | None:
    """The process that has this pid now; None where there is none or it is dead."""
    if psutil.LINUX:
        return _identify_by_proc(pid)
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Identity(pid, float(process.create_time()), boot_id())
    except psutil.Error:
        return None


@cache
def boot_id() -> str:
    """Tells one start of this machine from another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def processes_of(spool: Path) -> Iterator[psutil.Process]:
    """Every process that descends from the task's script: they all carry its spool in their environment."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(SPOOL_VARIABLE) == str(spool):
                yield process


def kill_all(spool: Path) -> int:
    """End by force whatever belongs to the task; the number of processes."""
    killed = 0
    for process in processes_of(spool):
        with suppress(psutil.Error):
            process.kill()
            killed += 1
    return killed


def reap(pid: int) -> None:
    """Let go of a child of ours that has ended; nothing happens to a process that is no child."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a process group that may have ended."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _identify_by_proc(pid: int) -> Identity | None:
    """One small file: this is asked several times a second for days."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses may hold anything; after it comes the state, and the start is field 22.
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else Identity(pid, float(fields[19]), boot_id())
