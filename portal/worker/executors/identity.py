"""Processes by an identity that outlives pids: pid, start time and boot."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
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
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Identity(pid, _started(process), boot_id())
    except psutil.Error:
        return None


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


def _started(process: psutil.Process) -> float:
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text("utf-8", "replace")
    except OSError:
        if psutil.LINUX:
            raise psutil.NoSuchProcess(process.pid) from None
        return float(process.create_time())
    # The name in parentheses may hold anything; the start is field 22, the twentieth after it.
    return float(stat.rpartition(")")[2].split()[19])
