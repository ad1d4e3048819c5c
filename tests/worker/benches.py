"""A worker over the fake portal: folders, a stand-in trainer, an agent in a thread or in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portal.worker.agent import Agent, Attachment
from portal.worker.executors.process import ProcessExecutor
from tests.worker.fake_portal import FakePortal

TRAINER = Path(__file__).parent / "fake_trainer.py"
WAIT = 60.0


def wait_for(ready: Callable[[], Any], what: str = "it") -> Any:
    """What ``ready`` returns once that is something."""
    deadline = time.monotonic() + WAIT
    while not (found := ready()):
        assert time.monotonic() < deadline, f"{what} never happened"
        time.sleep(0.02)
    return found


@dataclass
class Bench:
    """Everything around one worker."""

    portal: FakePortal
    folder: Path
    staging: str = "direct"
    offline_grace: float = 60.0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """The worker's folder."""
        return self.folder / "work"

    def behave(self, **behaviour: Any) -> None:
        """How the stand-in trainer behaves from now on."""
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour))

    def go(self) -> None:
        """Let the trainer go on that holds."""
        (self.folder / "go").touch()

    @property
    def python(self) -> Path:
        """A program in the place of the trainer's interpreter."""
        path = self.folder / "python"
        if not path.exists():
            path.write_text(
                f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\n'
                f'for last; do :; done\nexec {sys.executable} {TRAINER} {self.folder / "behaviour.json"} "$last"\n'
            )
            path.chmod(0o755)
            self.behave()
        return path

    def attachment(self, **changes: Any) -> Attachment:
        """How its worker is attached."""
        given = {
            "url": self.portal.url,
            "token": "good",
            "name": "w",
            "work": self.work,
            "python": str(self.python),
            "staging": self.staging,
            "once": True,
            "offline_grace": self.offline_grace,
            "ship_seconds": 0.05,
        }
        return Attachment(**{**given, **changes})

    def agent(self, **changes: Any) -> Agent:
        """An agent over this machine."""
        attachment = self.attachment(**changes)
        return Agent(attachment, ProcessExecutor(attachment.work / "attempts", 0, 1))

    def run(self, **changes: Any) -> int:
        """Run one job to its end, in this thread."""
        return self.agent(**changes).run()

    def start(self, **changes: Any) -> RunningAgent:
        """Run an agent in a thread."""
        return RunningAgent(self.agent(**changes))

    def spawn(self, *more: str) -> subprocess.Popen[bytes]:
        """`portal worker` in a process of its own."""
        command = [sys.executable, "-m", "portal", "worker", "--url", self.portal.url, "--token", "good", "--name", "w",
                   "--work", self.work, "--python", self.python, "--staging", self.staging, "--gpus", "0", *more]  # fmt: skip
        with (self.folder / "agent.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def spool(self, attempt: int = 1) -> Path:
        """The folder of an attempt."""
        return self.work / "attempts" / f"1-{attempt}"

    def wait_for_step(self, step: int, attempt: int = 1) -> None:
        """Wait until the portal knows a step's numbers."""
        wait_for(lambda: (step, "loss") in self.portal.attempts[attempt].points, f"step {step}")

    def wait_for_end(self, attempt: int = 1) -> dict[str, Any]:
        """How an attempt ended, once it has."""
        return wait_for(lambda: self.portal.attempts[attempt].ended, f"the end of attempt {attempt}")

    def clean_up(self) -> None:
        """End what a test left."""
        for process in self.processes:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()


class RunningAgent:
    """An agent in a thread."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.code: int | None = None
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.code = self.agent.run()
        except Exception as error:
            self.error = error

    def end(self) -> int | None:
        """Its exit code."""
        self.thread.join(WAIT)
        assert not self.thread.is_alive(), "the agent does not end"
        return self.code
