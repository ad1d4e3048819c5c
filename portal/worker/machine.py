"""What this machine has for training: GPUs with their memory, its own memory, room for files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from portal.worker.spool import Json
from portal.worker.surroundings import clean_environment

MIB = 1 << 20
TIMEOUT = 30.0
_ASK = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


def describe_machine(work: Path, gpus: int, spare: int = 0) -> Json:
    """``{devices: [{name, memory}], memory, disk}`` in bytes; ``disk`` is what is free at ``work`` and ``spare`` more,
    which can be given up. Of devices only the first ``gpus`` are told: the others are not this worker's."""
    return {
        "devices": list_devices()[:gpus] if gpus else [],
        "memory": int(psutil.virtual_memory().total),
        "disk": shutil.disk_usage(work).free + spare,
    }


def list_devices(command: Sequence[str] = _ASK) -> list[Json]:
    """GPUs as their driver names them, in its order; none where it cannot be asked."""
    try:
        done = subprocess.run(
            command, env=clean_environment(), capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in done.stdout.splitlines():
        name, _, memory = line.rpartition(",")
        if name:
            found.append({"name": name.strip()[:200], "memory": _bytes(memory)})
    return found


def _bytes(mebibytes: str) -> int | None:
    text = mebibytes.strip()
    return int(text) * MIB if text.isdigit() else None
