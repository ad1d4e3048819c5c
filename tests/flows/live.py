"""A real portal and real workers as processes, over a copy of demo/tiny that a test may spoil."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from portal.worker.executors.identity import kill_all
from tests.conftest import REPOSITORY
from tests.trainer_environment import trainer_python

RUN = "demo/tiny"
WAIT = 240.0
QUICK = {
    "PORTAL_LEASE_SECONDS": "15",
    "PORTAL_HEARTBEAT_SECONDS": "1",
    "PORTAL_REAPER_SECONDS": "0.5",
    "PORTAL_RETRY_SECONDS": "0.2",
    "PORTAL_JOB_ATTEMPTS": "10",
}


def wait_for(ready: Callable[[], Any], what: str) -> Any:
    """What ``ready`` returns once that is something."""
    deadline = time.monotonic() + WAIT
    while not (found := ready()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.1)
    return found


class LivePortal:
    """`portal serve` on one port, that can be killed and started again."""

    def __init__(self, folder: Path, copy: bool = False) -> None:
        self.folder = folder
        self.release = REPOSITORY / "portal" / "demo" / "tiny"
        if copy:
            shutil.copytree(self.release, folder / "release")
            self.release = folder / "release"
        self.environment = {**os.environ, **QUICK, "PORTAL_DATA": str(folder / "data")}
        self.process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.run("migrate")
        self.run("publish", str(self.release))
        self.worker_token = self.run("token", "create", "--role", "worker").strip()
        publisher = self.run("token", "create", "--role", "publisher").strip()
        self.http = httpx.Client(
            base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {publisher}"}, timeout=60
        )

    def run(self, *command: str) -> str:
        """Output of a `portal` command over its catalog."""
        done = subprocess.run(
            [sys.executable, "-m", "portal", *command],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        """Serve; returns when it answers."""
        with (self.folder / "portal.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "portal", "serve", "--port", str(self.port)],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, "the portal answers")

    def kill(self) -> None:
        """As without power."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """End it."""
        self.kill()
        self.http.close()

    def submit(self, **asked: Any) -> int:
        """The number of a new job."""
        answer = self.http.post("/jobs", json={"run": RUN, "set": {"numerics.threads": 1}, **asked})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def job(self, number: int) -> dict[str, Any]:
        """A job as it stands; empty while the portal is away."""
        with suppress(httpx.HTTPError):
            answer = self.http.get(f"/jobs/{number}")
            if answer.status_code == 200:
                return dict(answer.json())
        return {}

    def log(self, number: int, attempt: int) -> bytes:
        """What the portal has of an attempt's log; nothing while it is away."""
        with suppress(httpx.HTTPError):
            answer = self.http.get(f"/jobs/{number}/log", params={"attempt": attempt})
            if answer.status_code == 200:
                return answer.content
        return b""

    def wait_for_step(self, number: int, step: int) -> None:
        """Until an attempt of the job has told this step's loss."""
        wait_for(lambda: (self.job(number).get("progress_step") or 0) >= step, f"step {step} of job {number}")

    def wait_for_end(self, number: int) -> dict[str, Any]:
        """The job once it has ended."""
        ended = ("succeeded", "failed", "cancelled")
        return wait_for(
            lambda: found if (found := self.job(number)).get("state") in ended else None, f"job {number} ends"
        )

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "portal.log").read_text()[-3000:]
        with suppress(httpx.HTTPError):
            return self.http.get("/runs").status_code == 200
        return False


class LiveWorker:
    """`portal worker` that can be killed and started again in its folder."""

    def __init__(
        self, portal: LivePortal, name: str, more: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.portal = portal
        self.name = name
        self.work = portal.folder / f"work-{name}"
        self.environment = {**os.environ, **(environment or {})}
        self.more = more
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Attach."""
        command = ["worker", "--url", self.portal.url, "--token", self.portal.worker_token, "--name", self.name,
                   "--work", self.work, "--python", trainer_python(), *self.more]  # fmt: skip
        with (self.portal.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "portal", *command],
                env=self.environment,
                cwd=self.portal.folder,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """As without power; what it started runs on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def drain(self) -> None:
        """Take no more jobs; asked twice: let the running ones save and go on elsewhere."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Until it has ended by itself."""
        assert self.process is not None
        assert self.process.wait(WAIT) == 0, self.said()
        self.process = None

    def stop(self) -> None:
        """Let its jobs save and go on elsewhere."""
        self.drain()
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.wait()

    def processes(self, word: str) -> list[int]:
        """Pids of processes of its attempts with ``word`` in their command line."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if str(self.work) in line and word in line and not line.startswith(("sh ", "/bin/sh ", "srun ")):
                    found.append(process.pid)
        return found

    def close(self) -> None:
        """End it and all that runs in its folder."""
        self.kill()
        for spool in (self.work / "attempts").glob("*"):
            kill_all(spool)

    def said(self) -> str:
        """Its log."""
        return (self.portal.folder / f"{self.name}.log").read_text(errors="replace")[-4000:]
