"""A real Ray head for tests, in an environment of its own: ``python -m tests.ray_head`` builds it in ``.venv/ray``.

Token authentication, loopback only, two GPUs that are numbers. It is ended by its session: `ray stop` would end the
heads of others as well.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

REPOSITORY = Path(__file__).parent.parent
FOLDER = REPOSITORY / ".venv" / "ray"
LOCK = REPOSITORY / "requirements" / "ray.txt"
HOW = "python -m tests.ray_head"
TOKEN = "tests-" + "0123456789abcdef" * 4
GPUS = 2
CPUS = 6


@dataclass
class RayHead:
    """A running head."""

    folder: Path
    process: subprocess.Popen[bytes]
    address: str
    token: str = TOKEN

    def stop(self) -> None:
        """End every process of its session, and remove its folder."""
        members = _session(self.process.pid)
        for member in members:
            with suppress(psutil.Error):
                member.kill()
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(members, timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)


def ray_program() -> Path | None:
    """The ``ray`` command of a complete and current environment; None where it has to be built."""
    done = FOLDER / "built-from"
    return FOLDER / "bin" / "ray" if done.is_file() and done.read_text() == _wanted() else None


def build() -> None:
    """Make the environment anew: about 300 MB."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    uv = Path(sys.executable).parent / "uv"
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, FOLDER],
        [uv, "pip", "install", "--quiet", "--python", FOLDER / "bin" / "python", "--require-hashes", "-r", LOCK],
    ):
        subprocess.run(command, check=True)
    (FOLDER / "built-from").write_text(_wanted())


def start_ray() -> RayHead | None:
    """Start a head; None where its environment is not built. Takes 10 to 30 seconds."""
    program = ray_program()
    if program is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="ry", dir="/tmp"))  # short: paths of sockets have a limit
    names = ("port", "dashboard-port", "node-manager-port", "object-manager-port", "runtime-env-agent-port",
             "dashboard-agent-grpc-port", "dashboard-agent-listen-port", "metrics-export-port", "ray-client-server-port")  # fmt: skip
    ports = dict(zip(names, _ports(len(names)), strict=True))
    low = 13_000 + os.getpid() % 100 * 100
    options = {
        **ports,
        "node-ip-address": "127.0.0.1",
        "dashboard-host": "127.0.0.1",
        "num-gpus": GPUS,
        "num-cpus": CPUS,
        "object-store-memory": 80_000_000,
        "temp-dir": folder / "t",
        "min-worker-port": low,
        "max-worker-port": low + 99,
    }
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_LOG_TO_STDERR": "0",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "start", "--head", "--block", *(f"--{name}={value}" for name, value in options.items())],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    head = RayHead(folder, process, f"http://127.0.0.1:{ports['dashboard-port']}")
    try:
        _wait_until_ready(head)
    except BaseException:
        head.stop()
        raise
    return head


def _wait_until_ready(head: RayHead) -> None:
    """Until it tells its GPUs: the API answers seconds before that."""
    deadline = time.monotonic() + 120
    with httpx.Client(base_url=head.address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20) as http:
        while True:
            with suppress(httpx.HTTPError, ValueError):
                if '"GPU"' in http.get("/api/cluster_status").text:
                    return
            if head.process.poll() is not None or time.monotonic() > deadline:
                said = (head.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"Ray did not start: {said[-2000:]}")
            time.sleep(0.2)


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


def _ports(count: int) -> list[int]:
    opened = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in opened]
    for each in opened:
        each.close()
    return ports


def _wanted() -> str:
    return f"{hashlib.sha256(LOCK.read_bytes()).hexdigest()} {sys.version_info[:2]}\n"


if __name__ == "__main__":
    if ray_program() is None:
        sys.stderr.write("Building the environment of Ray\n")
        build()
