"""SIGKILL while a backup is made, or put back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portal.exchange.backup.places import open_place
from portal.exchange.backup.verify import verify_backups
from portal.settings import Settings
from tests.backup.portals import back_up, blobs_of, put, rows_of
from tests.conftest import REPOSITORY

PORTAL = [sys.executable, "-m", "portal"]
Wait = Callable[[subprocess.Popen[bytes]], None]


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_killed_command_is_gone_on_with(command: str, portal: Settings, place: Path, tmp_path: Path) -> None:
    """SIGKILL at moments spread over its length: what was there before is whole, and the next try ends."""
    first = verify_backups(open_place(str(place), portal), "").backups
    for number in range(60):
        put(portal, tmp_path, b"%d" % number * 3000)
    into = tmp_path / "into"
    data = portal.data if command == "backup" else into
    if command == "restore":
        first.append(back_up(portal, place).id)
    environment = {**os.environ, "PORTAL_DATA": str(data), "PYTHONPATH": str(REPOSITORY)}
    killed = 0
    for moment in _moments(command, place, into):
        process = subprocess.Popen(
            [*PORTAL, command, str(place), "--json"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        moment(process)
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert verify_backups(open_place(str(place), portal), "").backups[: len(first)] == first
    assert killed >= 1
    done = subprocess.run([*PORTAL, command, str(place), "--json"], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    if command == "restore":
        assert told["there"] > 0
        assert (rows_of(Settings(data=into)), blobs_of(Settings(data=into))) == (rows_of(portal), blobs_of(portal))
    assert verify_backups(open_place(str(place), portal), "").faults == []
    assert not list((place / "objects").glob("incoming/*"))


def _moments(command: str, place: Path, into: Path) -> Iterator[Wait]:
    """Waits for how far the command has come, seen by what it has written."""
    watched = place / "objects" if command == "backup" else into / "store"
    there = _files(watched)

    def wait_for(more: int) -> Wait:
        def wait(process: subprocess.Popen[bytes]) -> None:
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if _files(watched) >= there + more:
                    return
                time.sleep(0.005)

        return wait

    return iter([wait_for(more) for more in (3, 60)])


def _files(folder: Path) -> int:
    """Files below a folder that others write to meanwhile."""
    return sum(len(names) for _, _, names in os.walk(folder))
