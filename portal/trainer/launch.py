"""Several processes on one machine, one per GPU, with exit codes that still mean something; torchrun's do not.

``python -m portal.trainer --processes N FOLDER/trainer.json`` starts them, passes a stop on, and ends as they did.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from portal.trainer.errors import BAD_INPUT, DISK_FULL, DONE, FAILED, STOPPED, UNFIT

GRACE = 60.0
"""Seconds that the others get to end once one has failed: their next exchange would wait for it for ever."""


def launch(processes: int, path: str, stop: Callable[[], bool]) -> int:
    """Run ``path`` in ``processes`` processes; 0 if all trained to the end, 75 if any was stopped, else the failure."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "portal.trainer", path],
            env={**os.environ, **together, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            # A stop typed at the terminal comes from here, once.
            start_new_session=True,
        )
        for rank in range(processes)
    ]
    try:
        return _outcome(_wait(children, stop))
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()


def _wait(children: list[subprocess.Popen[bytes]], stop: Callable[[], bool]) -> list[int | None]:
    """Exit codes once all have ended, or those there are when one has failed and its grace is over."""
    told, failed_at = False, None
    while True:
        codes = [child.poll() for child in children]
        if all(code is not None for code in codes):
            return codes
        if stop() and not told:
            told = True
            for child in children:
                child.terminate()
        if any(code not in (None, DONE, STOPPED) for code in codes):
            failed_at = failed_at or time.monotonic()
            if time.monotonic() - failed_at > GRACE:
                return codes
        time.sleep(0.05)


def _outcome(codes: list[int | None]) -> int:
    for told in (BAD_INPUT, UNFIT, DISK_FULL):
        if told in codes:
            return told
    if any(code not in (DONE, STOPPED) for code in codes):
        return FAILED
    return STOPPED if STOPPED in codes else DONE
