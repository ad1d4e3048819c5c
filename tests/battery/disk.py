"""A disk that fills up under a portal that publishes: refused in words, nothing acknowledged lost, and on it goes when there is room."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.battery.figures import Figures, Scale
from tests.battery.portals import Portal, free_space, prepare
from tests.battery.publishers import release
from tests.battery.wire import Answer, Probe, Wire

SIZE_MB = 64


def run(scale: Scale) -> Figures:
    """Fill a small disk to several marks."""
    figures = Figures(f"a disk of {SIZE_MB} MB full at several marks")
    with tempfile.TemporaryDirectory(prefix="battery-") as outer, _small_disk(Path(outer)) as folder:
        if folder is None:
            figures.skipped = "a tmpfs of its own (mount needs root and the right to mount)"
            return figures
        # The reserve is what an operator sets; here the disk itself is to be hit.
        portal = prepare(folder, more={"PORTAL_DISK_RESERVE_BYTES": "0"})
        portal.start()
        try:
            kept: dict[str, str] = {}
            for number in range(scale.pick(2, 10, 20)):
                figures.injected += 1
                figures.wrong += _fill(portal, number, kept)
            figures.tried = len(kept)
            figures.lost = _count_lost(portal, kept)
            portal.kill()
            figures.wrong += _check_database(folder / "data" / "portal.sqlite3")
        finally:
            portal.kill()
    return figures


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path | None]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "battery", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def _fill(portal: Portal, number: int, kept: dict[str, str]) -> list[str]:
    """Leave a few KB, publish until refused, make room, publish again."""
    dice = random.Random(number)
    ballast, wrong = portal.folder / "ballast", []
    left = dice.choice((0, 4, 16, 64, 200, 500)) << 10
    with ballast.open("wb") as file:
        while (free := free_space(portal.folder)) > left:
            try:
                file.write(bytes(min(free - left, 1 << 20)))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                break
    refused = False
    for k in range(6):
        told = _publish(portal, f"lab/disk-{number}-{k}", dice.randbytes(90_000), kept)
        if told.status == 0 or (told.status >= 500 and told.status not in (503, 507)):
            wrong.append(f"with {left} bytes left: {told.status} {told.body[:200]!r}")
        refused |= told.status not in (200, 201)
    if Wire(portal.port).ask(Probe("GET", "/api/v1/runs/lab/small")).status != 200:
        wrong.append(f"with {left} bytes left: nothing can be read")
    if not refused:
        wrong.append(f"with {left} bytes left: 540 KB were taken all the same")
    ballast.unlink()
    told = _publish(portal, f"lab/disk-{number}-after", dice.randbytes(9_000), kept)
    if told.status not in (200, 201):
        wrong.append(f"with room again: {told.status} {told.body[:200]!r}")
    return wrong


def _publish(portal: Portal, run: str, content: bytes, kept: dict[str, str]) -> Answer:
    """The last answer; what was acknowledged goes to ``kept``."""
    wire = Wire(portal.port)
    headers = {"Authorization": f"Bearer {portal.tokens['publisher']}"}
    digest = hashlib.sha256(content).hexdigest()
    sent = wire.ask(Probe("PUT", f"/api/v1/blobs/{digest}", headers, content))
    if sent.status not in (200, 201):
        return sent
    kept[f"blob {digest}"] = digest
    told = wire.ask(Probe("POST", "/api/v1/releases", headers, release(run, content)))
    if told.status in (200, 201):
        kept[f"run {run}"] = run
    return told


def _count_lost(portal: Portal, kept: dict[str, str]) -> int:
    wire = Wire(portal.port)
    headers = {"Authorization": f"Bearer {portal.tokens['publisher']}"}
    asked = {
        name: Probe("HEAD", f"/api/v1/blobs/{value}", headers)
        if name.startswith("blob")
        else Probe("GET", f"/api/v1/runs/{value}")
        for name, value in kept.items()
    }
    return sum(wire.ask(probe).status != 200 for probe in asked.values())


def _check_database(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        said = connection.execute("pragma integrity_check").fetchone()[0]
    return [] if said == "ok" else [f"integrity_check: {said}"]
