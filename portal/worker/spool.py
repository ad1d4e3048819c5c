"""An attempt's folder: what the agent, the runner and the trainer tell each other, by files that are whole or absent.

lease.json           what was leased, with the attempt's own token (readable by this user alone)
input/               checkpoint/, resume/, chunks/, plan.parquet, rows.bin, and `ready` once all of it is verified
trainer.json         what the trainer is told; log.txt and output/ are what it leaves
trainer-process.json the trainer's process, and `trainer-exit` its exit code
runner.json          what the runner does now; control.json what it is asked to do
shipped.json         how much of log, numbers and checkpoints the portal has acknowledged
submitted.json       what the engine calls the attempt; `exit` (see executors) how its runner ended
done.json            the portal knows how the attempt ended: nothing here is needed any more
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portal.errors import DataFault

Json = dict[str, Any]

LEASE, CONTROL, RUNNER, SHIPPED = "lease.json", "control.json", "runner.json", "shipped.json"
SUBMITTED, DONE, LOG = "submitted.json", "done.json", "log.txt"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """The right to run one attempt, and how this worker runs it."""

    url: str
    """Of the portal."""
    job: int
    attempt: int
    fence: int
    attempt_token: str
    spec: Json
    plan_url: str
    files: list[Json]
    resume: Json | None
    lease_seconds: float
    heartbeat_seconds: float
    staging: str
    """``direct``: the runner talks to the portal; ``relay``: it only writes here, and the agent talks."""
    python: str
    """The interpreter that trains."""
    cache_bytes: int
    offline_grace: float
    """Seconds without any answer of the portal after which training is stopped."""
    ship_seconds: float = 1.0

    @property
    def name(self) -> str:
        """As engines know the attempt; two portals may number their jobs alike."""
        portal = hashlib.sha256(self.url.encode()).hexdigest()[:8]
        return f"portal-{portal}-{self.job}-{self.attempt}"

    @property
    def gpus(self) -> int:
        """GPUs it asks for."""
        return int(self.spec.get("resources", {}).get("gpus") or 0)


@dataclass(frozen=True)
class Spool:
    """The folder of one attempt."""

    folder: Path

    @classmethod
    def of(cls, attempts: Path, job: int, attempt: int) -> Spool:
        """By the attempt's numbers."""
        return cls(attempts / f"{job}-{attempt}")

    def path(self, name: str) -> Path:
        """A file in it."""
        return self.folder / name

    @property
    def input(self) -> Path:
        """What the trainer reads."""
        return self.folder / "input"

    @property
    def output(self) -> Path:
        """What the trainer writes."""
        return self.folder / "output"

    @property
    def cache(self) -> Path:
        """Verified files of all attempts of this worker."""
        return self.folder.parent.parent / "cache"

    def lease(self) -> Lease:
        """What was leased; DataFault where the folder holds no whole lease."""
        found = self.read(LEASE)
        try:
            return Lease(**(found or {}))
        except TypeError as error:
            raise DataFault(f"{self.path(LEASE)} is no lease: {error}.", "Remove the folder.") from None

    def read(self, name: str) -> Json | None:
        """A JSON file; None while it is absent."""
        try:
            found = json.loads(self.path(name).read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, name: str, value: Json, durable: bool = False) -> None:
        """Write a JSON file that only this user reads; ``durable``: it survives a power cut."""
        path = self.path(name)
        part = path.with_name(f".{name}.{os.getpid()}")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)

    def note(self, name: str, value: Json, durable: bool = False) -> None:
        """`write` where there is room: a full disk must not keep an attempt from going on, or from ending."""
        try:
            self.write(name, value, durable)
        except OSError as error:
            _log.warning("%s was not noted: %s", self.path(name), error)
