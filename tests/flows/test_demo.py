"""`portal demo` as a visitor meets it: a worker is there, a replay proves itself, and stopping leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.flows.live import wait_for
from tests.trainer_environment import trainer_python


@pytest.mark.xdist_group("trainer")
def test_a_visitor_replays_in_the_demo_and_nothing_is_left(tmp_path: Path) -> None:
    assert Path(sys.prefix) in trainer_python().parents, "the demo looks for it beside its own interpreter"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "portal", "demo", "--data", tmp_path, "--only", "demo/tiny", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        demo = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ), cwd=tmp_path)
    started = []
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=60) as http:

            def asked(path: str) -> Any:
                with suppress(httpx.TransportError):
                    return http.get(path).raise_for_status().json()

            wait_for(lambda: (asked("/workers") or {}).get("items"), "the worker attaches itself")
            body = {"kind": "replay", "run": "demo/tiny", "step": 300, "steps": 50}
            job = http.post("/jobs", json=body).raise_for_status().json()["id"]
            wait_for(lambda: asked(f"/jobs/{job}")["state"] == "succeeded", "the replay ends")
            assert asked(f"/jobs/{job}")["verdict"] == "exact"
            body = {"kind": "resume", "run": "demo/tiny", "step": 50, "steps": 500}
            job = http.post("/jobs", json=body).raise_for_status().json()["id"]
            wait_for(lambda: (asked(f"/jobs/{job}")["progress_step"] or 0) > 52, "the next job trains")
            started = psutil.Process(demo.pid).children(recursive=True)
            demo.send_signal(signal.SIGTERM)
            demo.wait(120)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 0, (tmp_path / "log").read_text()
    _, left = psutil.wait_procs(started, timeout=20)
    assert left == []
    assert "saves the job" in (tmp_path / "log").read_text()
