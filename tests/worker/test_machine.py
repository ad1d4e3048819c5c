"""What a worker says of its machine, and what it removes from its disk."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from portal.cli.worker import _interpreter
from portal.worker.leftovers import DAY, remove_leftovers
from portal.worker.machine import describe_machine, list_devices
from portal.worker.spool import Spool


def printing(text: str) -> list[str]:
    return [sys.executable, "-c", f"print({text!r})"]


def test_gpus_are_told_as_their_driver_names_them() -> None:
    assert list_devices(printing("NVIDIA H200, 143771\nNVIDIA A100-SXM4-80GB, [N/A]")) == [
        {"name": "NVIDIA H200", "memory": 143771 << 20},
        {"name": "NVIDIA A100-SXM4-80GB", "memory": None},
    ]
    assert list_devices(printing("no devices were found")) == []
    assert list_devices(["/nowhere/nvidia-smi"]) == []
    assert list_devices([sys.executable, "-c", "raise SystemExit(9)"]) == []


def test_a_machine_has_memory_and_disk(tmp_path: Path) -> None:
    told = describe_machine(tmp_path, 0, spare=1 << 60)
    assert told["devices"] == []
    assert told["memory"] > 1 << 28
    assert told["disk"] > 1 << 60


def test_old_folders_go_that_nobody_keeps(tmp_path: Path) -> None:
    week_ago = time.time() - 8 * DAY
    for name in ("1-1", "2-1", "3-1", "4-1"):
        (tmp_path / name / "output").mkdir(parents=True)
        (tmp_path / name / "log.txt").touch()
        for path in (tmp_path / name / "log.txt", tmp_path / name / "output", tmp_path / name):
            os.utime(path, (week_ago, week_ago))
    (tmp_path / "3-1" / "output" / "new").touch()
    gone = remove_leftovers(tmp_path, {tmp_path / "2-1"}, 7 * DAY)
    assert gone == [tmp_path / "1-1", tmp_path / "4-1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2-1", "3-1"]


def test_what_cannot_be_noted_keeps_nothing_from_going_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool(tmp_path / "gone")
    spool.note("shipped.json", {"log": 1})
    assert "was not noted" in caplog.text
    with pytest.raises(OSError, match="No such file"):
        spool.write("shipped.json", {"log": 1})


def test_an_interpreter_is_known_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts run in folders of their own; the link that makes a virtual environment is kept."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert _interpreter("venv/bin/python") == str(tmp_path / "venv" / "bin" / "python")
    assert Path(_interpreter("sh")).is_absolute()
    assert _interpreter("nowhere/python") == str(tmp_path / "nowhere" / "python")
    assert _interpreter("") == sys.executable
