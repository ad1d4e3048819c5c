"""demo/tiny as a run whose weights lie in a bucket and whose data lie on another portal, which stands for the Hub."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from portal.demo.build import TINY
from tests.clients.facts import RUN, about
from tests.flows.live import wait_for
from tests.seaweed import BUCKET, SeaweedServer

HERE = ("configs", "evals", "metrics", "tokenizer.json", "tokenizer_config.json")


class Served:
    """One `portal serve` over a folder of its own, and `portal` commands over its catalog."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """``settings`` are those of the environment, without PORTAL_ and in lower case."""
        folder.mkdir()
        self.folder = folder
        self.environment = {**os.environ, "PORTAL_DATA": str(folder / "data"), "NO_COLOR": "1"}
        self.environment |= {f"PORTAL_{name.upper()}": value for name, value in settings.items()}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *command: object) -> str:
        """What a `portal` command that succeeds prints."""
        done = command_line(command, self.folder, self.environment)
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def start(self) -> None:
        """Serve; returns when it answers."""
        command = [sys.executable, "-m", "portal", "serve", "--port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self.environment, cwd=self.folder, stdout=log, stderr=log)
        wait_for(self._answers, "the portal answers")

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def said(self) -> str:
        """Its log."""
        return (self.folder / "log").read_text(errors="replace")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.said()[-3000:]
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz").status_code == 200
        return False


def command_line(
    command: tuple[object, ...], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """A `portal` command in a process of its own."""
    line = [sys.executable, "-m", "portal", *map(str, command)]
    return subprocess.run(line, env=environment, cwd=folder, capture_output=True, text=True)


def write_apart(folder: Path, server: SeaweedServer, prefix: str) -> Path:
    """A release folder with configs and numbers alone: checkpoints go to the bucket, data are at ``hf://``."""
    folder.mkdir()
    document = yaml.safe_load((TINY / "release.yaml").read_text())
    for name in HERE:
        source = TINY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    client = server.client()

    def put(path: Path) -> dict[str, Any]:
        key = f"{prefix}/{path.relative_to(TINY).as_posix()}"
        client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
        return {"path": f"s3://{BUCKET}/{key}"} | about(path)

    def named(path: str) -> dict[str, Any]:
        return {"path": f"hf://datasets/{RUN}@main/{path}"} | about(TINY / path)

    (pattern,) = document["checkpoints"]
    kept = {key: pattern[key] for key in ("contains", "dtype")}
    document["checkpoints"] = [
        {"step": 50 * k, "labels": [f"ckpt_{k:03d}"], **kept}
        | {"files": [put(p) for p in sorted((TINY / "checkpoints" / f"step-{50 * k:04d}").iterdir())]}
        for k in range(pattern["steps"]["count"])
    ]
    for chunk in document["data"]["chunks"]:
        chunk["files"] = [named(file["path"]) for file in chunk["files"]]
    for order in document["data"]["order"]:
        order["file"] = named(order["file"]["path"])
    shutil.copy(TINY / "checkpoints" / "step-0600" / "config.json", folder / "config.json")
    document["model"]["config"] = "config.json"
    (folder / "release.yaml").write_text(yaml.safe_dump(document))
    return folder
