"""Clients that publish over HTTP and remember what they were told, so that it can be asked for after a fault."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.battery.portals import Portal
from tests.battery.wire import Answer, Probe, Wire

GIVE_UP_S = 180.0
PATIENCE_S = 10.0


def release(run: str, content: bytes, **more: Any) -> bytes:
    """The body that publishes a run of one file."""
    digest = hashlib.sha256(content).hexdigest()
    manifest = {
        "format": "llm360-portal/release/1",
        "run": run,
        "title": digest,
        "training": {"last_step": 1},
        "checkpoints": [{"step": 1, "files": [{"path": "w.bin", "role": "weights"}]}],
    }
    return json.dumps(
        {"manifest": manifest, "files": {"w.bin": {"sha256": digest, "size": len(content)}}, **more}
    ).encode()


@dataclass
class Publisher:
    """Publishes one run after the other until told to stop; every request is repeated until it is answered."""

    portal: Portal
    name: str
    stop: threading.Event
    blobs: list[str] = field(default_factory=list)
    """sha256 that the portal said it has."""
    versions: dict[str, int] = field(default_factory=dict)
    """Version by run, as the portal said."""
    wrong: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Work."""
        dice, number = random.Random(self.name), 0
        while not self.stop.is_set():
            number += 1
            run, content = f"lab/{self.name}-{number}", dice.randbytes(dice.choice((10, 5_000, 300_000)))
            digest = hashlib.sha256(content).hexdigest()
            sent = self.until_answered("PUT", f"/api/v1/blobs/{digest}", content)
            if sent is None:
                return
            if sent.status not in (200, 201):
                self.wrong.append(f"PUT of {run}: {sent.status} {sent.body[:200]!r}")
                continue
            self.blobs.append(digest)
            told = self.until_answered("POST", "/api/v1/releases", release(run, content), key=run)
            if told is None:
                return
            if told.status not in (200, 201):
                self.wrong.append(f"POST of {run}: {told.status} {told.body[:200]!r}")
                continue
            self.versions[run] = told.json()["version"]

    def until_answered(self, method: str, path: str, body: bytes, key: str = "") -> Answer | None:
        """Ask again while nobody answers, or says that it cannot now; None once told to stop."""
        headers = {
            "Authorization": f"Bearer {self.portal.tokens['publisher']}",
            "Content-Type": "application/octet-stream",
        }
        headers |= {"Idempotency-Key": key} if key else {}
        deadline = time.monotonic() + GIVE_UP_S
        while time.monotonic() < deadline:
            wire = Wire(self.portal.port)
            answer = wire.ask(Probe(method, path, headers, body))
            wire.close()
            if answer.status == 409 and answer.json().get("code") == "offset-mismatch":
                # What came before the fault is kept; the rest is sent from there.
                received, size = int(answer.json()["received"]), len(body)
                headers["Content-Range"] = (
                    f"bytes {received}-{size - 1}/{size}" if received < size else f"bytes */{size}"
                )
                answer = Wire(self.portal.port).ask(Probe(method, path, headers, body[received:]))
                headers.pop("Content-Range")
            if answer.status not in (0, 409, 500, 503):
                return answer
            if answer.status == 500:
                self.wrong.append(f"{method} {path[:60]}: 500")
            if self.stop.is_set():
                return None
            time.sleep(0.02)
        self.wrong.append(f"{method} {path[:80]} was never answered")
        return None


def wait_for_more(publishers: list[Publisher], before: int) -> int:
    """Until more than ``before`` writes were acknowledged, or for some seconds; how many were."""
    deadline = time.monotonic() + PATIENCE_S
    while (told := acknowledged(publishers)) <= before and time.monotonic() < deadline:
        time.sleep(0.01)
    return told


def acknowledged(publishers: list[Publisher]) -> int:
    """Writes that the portal said it has."""
    return sum(len(p.blobs) + len(p.versions) for p in publishers)


def lost(portal: Portal, publishers: list[Publisher]) -> list[str]:
    """Acknowledged writes that are not there, or are there twice."""
    wire = Wire(portal.port)
    headers = {"Authorization": f"Bearer {portal.tokens['publisher']}"}
    found = []
    for publisher in publishers:
        for digest in publisher.blobs:
            if wire.ask(Probe("HEAD", f"/api/v1/blobs/{digest}", headers)).status != 200:
                found.append(f"blob {digest[:12]} of {publisher.name} is gone")
        for run, version in publisher.versions.items():
            answer = wire.ask(Probe("GET", f"/api/v1/runs/{run}"))
            told = answer.json() if answer.status == 200 else {}
            if told.get("summary", told).get("version") != version or version != 1:
                found.append(f"{run} was acknowledged as version {version}, is {answer.status} {str(told)[:100]}")
    return found
