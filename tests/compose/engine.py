"""A deployment of compose.yaml under a name of its own, on free ports, that is gone afterwards with its volumes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.conftest import REPOSITORY

UP = 300
"""Seconds that everything may take to be healthy."""


@dataclass
class Deployment:
    """Services under one project's name."""

    name: str
    environment: dict[str, str]
    files: tuple[str, ...]
    profiles: tuple[str, ...] = ()
    address: str = ""

    def compose(self, *words: str, check: bool = True) -> str:
        """Standard output of a `docker compose` command; what it says on stderr is shown where it fails."""
        files = [part for file in self.files for part in ("-f", file)]
        profiles = [part for profile in self.profiles for part in ("--profile", profile)]
        done = subprocess.run(
            ["docker", "compose", "-p", self.name, *files, *profiles, *words],
            cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(
                f"docker compose {' '.join(words)}: {done.returncode}\n{(done.stdout + done.stderr)[-6000:]}"
            )
        return done.stdout

    def up(self) -> float:
        """Start what is not running and wait until all of it is healthy: the seconds it took."""
        begun = time.monotonic()
        try:
            self.compose("up", "--detach", "--wait", "--wait-timeout", str(UP))
        except RuntimeError:
            sys.stdout.write(self.compose("ps", "--all", check=False))
            sys.stdout.write(self.compose("logs", "--tail", "60", check=False))
            raise
        return time.monotonic() - begun

    def run_in(self, service: str, *words: str, check: bool = True) -> str:
        """What a command inside a running service prints."""
        return self.compose("exec", "-T", service, *words, check=check)

    def containers(self) -> list[dict[str, Any]]:
        """What the engine knows of each of its containers, ended ones too."""
        names = self.compose("ps", "--all", "--quiet").split()
        shown = subprocess.run(
            ["docker", "inspect", *names], env=self.environment, capture_output=True, text=True, check=True
        )
        found: list[dict[str, Any]] = json.loads(shown.stdout)
        return found

    def ask(self, path: str) -> Any:
        """JSON of the portal."""
        return httpx.get(f"{self.address}{path}", timeout=60).raise_for_status().json()


def missing() -> str:
    """What this machine lacks, and how to get it; empty where nothing is missing."""
    if shutil.which("docker") is None:
        return "Docker is missing: install Docker Engine 26 or newer"
    for command, told in (("version", "the Docker engine does not answer"), ("compose version", "Compose is missing")):
        if subprocess.run(["docker", *command.split()], capture_output=True, check=False).returncode:
            return told
    return ""


@contextmanager
def deployed(name: str, *files: str, profiles: tuple[str, ...] = (), **variables: str) -> Iterator[Deployment]:
    """Built and up; taken down with its volumes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "WEB_PORT": str(port), **variables}
    here = Deployment(name, environment, ("compose.yaml", *files), profiles, f"http://127.0.0.1:{port}")
    here.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
    try:
        begun = time.monotonic()
        here.compose("build")
        tell(f"images are built ({time.monotonic() - begun:.0f} s)")
        tell(f"everything is healthy ({here.up():.0f} s)")
        yield here
    finally:
        here.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)


def wait_for(ready: Callable[[], Any], what: str, seconds: float = 600) -> Any:
    """What ``ready`` returns once that is something."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.5)
    return found


def tell(what: str) -> None:
    """A line of progress."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {what}\n")
    sys.stdout.flush()
