"""The agent: attaches a worker, leases jobs, keeps their attempts, takes up those of an agent before it. Listens nowhere."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from portal import __version__
from portal.errors import Conflict, Forbidden, NotFound, PortalError, Unauthorized, Unavailable, UsageError
from portal.worker.cache import DEFAULT_BYTES, FileCache
from portal.worker.calls import AttemptCalls, WorkerCalls
from portal.worker.engine import Engine
from portal.worker.executors import Executor
from portal.worker.executors.launch import was_started
from portal.worker.keeper import Keeper
from portal.worker.leftovers import DAY, remove_leftovers
from portal.worker.machine import describe_machine
from portal.worker.spool import DONE, LEASE, Json, Lease, Spool
from portal.worker.surroundings import clean_environment

FULL = 5.0
"""Seconds between two looks for a free place; the end of an attempt is noticed at once."""
QUEUED = 4
"""Attempts that are handed to an engine that queues them itself."""
LONGEST_WAIT = 30.0
TIDY = 600.0
"""Seconds between looks for folders that were left as they are."""
_VERSIONS = """
import json, platform
from importlib.metadata import PackageNotFoundError, version
found = {"python": platform.python_version()}
for name in ("torch", "transformers"):
    try: found[name] = version(name)
    except PackageNotFoundError: pass
print(json.dumps(found))
"""
TRAINS_WITH = ("torch", "transformers")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attachment:
    """How a worker is attached."""

    url: str
    token: str
    name: str
    work: Path
    python: str
    labels: Mapping[str, str] = field(default_factory=dict)
    staging: str = "direct"
    once: bool = False
    cache_bytes: int = DEFAULT_BYTES
    offline_grace: float = 1800.0
    ship_seconds: float = 1.0
    leftover_seconds: float = 7 * DAY
    """After which a folder of an attempt that nobody can take up again is removed."""


class Agent:
    """Runs until it is drained, refused, or (``once``) has run a job."""

    def __init__(self, attachment: Attachment, executor: Executor) -> None:
        self._attachment = attachment
        self._engine = Engine(executor)
        self._calls = WorkerCalls(attachment.url, attachment.token)
        self._asking = WorkerCalls(attachment.url, attachment.token)
        """For jobs alone, so that the question can be broken off."""
        self._attempts = attachment.work.absolute() / "attempts"
        self._keepers: list[Keeper] = []
        self._lock = threading.Lock()
        self._draining = threading.Event()
        self._saving = threading.Event()
        self._freed = threading.Event()
        """Set when there may be room again, or nothing more is taken."""
        self._refused: PortalError | None = None
        self._worker: Json = {}
        self._failed = 0

    def drain(self) -> None:
        """Take no further job and end when the running ones have; asked again: let them save and stop now."""
        if self._draining.is_set():
            self._saving.set()
        self._draining.set()
        self._freed.set()

    def run(self) -> int:
        """Work; 0, or 1 when (``once``) the job failed. Raises what refused the worker."""
        with ExitStack() as stack:
            stack.callback(self._calls.close)
            stack.callback(self._asking.close)
            stack.callback(self._engine.close)
            stack.enter_context(self._hold_folder())
            self._attach()
            self._adopt()
            leasing = threading.Thread(target=self._lease_jobs, name="leases", daemon=True)
            leasing.start()
            self._look_after(leasing)
        if self._refused is not None:
            raise self._refused
        return 1 if self._attachment.once and self._failed else 0

    def _look_after(self, leasing: threading.Thread) -> None:
        """Ask the engine for all states, again and again, until there is nothing left to look after."""
        told, tidied = False, time.monotonic()
        while True:
            if time.monotonic() - tidied > TIDY and not self._draining.is_set():
                tidied = time.monotonic()
                self._tidy()
            if self._draining.is_set() and not told:
                told = True
                self._say_draining()
                self._asking.hang_up()
            try:
                self._engine.look()
            except PortalError as error:
                _log.warning("The engine was not asked: %s", error)
            with self._lock:
                self._failed += sum(1 for k in self._keepers if not k.active and k.outcome == "failed")
                left = [k for k in self._keepers if k.active]
                if len(left) < len(self._keepers):
                    self._freed.set()
                self._keepers = left
                busy = bool(self._keepers)
                if self._saving.is_set():
                    for keeper in self._keepers:
                        keeper.save()
            if not busy and (self._draining.is_set() or not leasing.is_alive()):
                return
            time.sleep(self._engine.look_seconds)

    def _attach(self) -> None:
        """Register; waits for a portal that does not answer, raises what it refuses."""
        capacity = self._wait_for_engine()
        attachment = self._attachment
        about = self._describe(capacity)
        wait = 1.0
        while not self._draining.is_set():
            try:
                self._worker = self._calls.attach(about)
            except Unavailable as error:
                _log.warning("%s", error)
                self._draining.wait(wait)
                wait = min(wait * 2, LONGEST_WAIT)
            else:
                _log.info("Attached as %s (%s, %d GPUs).", attachment.name, self._engine.name, capacity)
                return

    def _describe(self, gpus: int) -> Json:
        """What the portal is told of this worker."""
        attachment = self._attachment
        versions = trainer_versions(attachment.python)
        if missing := [name for name in TRAINS_WITH if name not in versions]:
            names = " and no ".join(missing)
            _log.warning("%s has no %s: the portal will hand this worker no jobs.", attachment.python, names)
        machine: Json = {}
        if self._engine.name == "process":  # jobs of a cluster run elsewhere, and its engine places them
            spare = FileCache(attachment.work.absolute() / "cache", attachment.cache_bytes).unused_bytes()
            machine = describe_machine(attachment.work, gpus, spare)
        return {
            "name": attachment.name,
            "executor": self._engine.name,
            "gpus": gpus,
            "labels": dict(attachment.labels),
            "version": __version__,
            "trainer": versions,
            "machine": machine,
            "host": socket.gethostname(),
        }

    def _wait_for_engine(self) -> int:
        try:
            return self._engine.capacity().gpus
        except Unavailable as error:
            raise Unavailable(f"The engine cannot be used: {error.message}", error.remedy) from None

    def _adopt(self) -> None:
        """Take up what an earlier agent left, and what this one could not end."""
        active = self._active_folders()
        for folder in sorted(self._attempts.iterdir()):
            if folder in active:
                continue
            spool = Spool(folder)
            try:
                lease = spool.lease()
            except PortalError as error:
                # An agent that died before the lease was whole on disk has started nothing from it.
                if was_started(folder):
                    _log.warning("%s is left as it is: %s", folder, error)
                else:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            if spool.read(DONE) is None:
                _log.info("%s: found, goes on", lease.name)
            self._keep(spool, lease)

    def _tidy(self) -> None:
        self._adopt()
        remove_leftovers(self._attempts, self._active_folders(), self._attachment.leftover_seconds)

    def _active_folders(self) -> set[Path]:
        with self._lock:
            return {keeper.folder for keeper in self._keepers if keeper.active}

    def _lease_jobs(self) -> None:
        wait = 1.0
        while not self._draining.is_set():
            try:
                self._freed.clear()
                room = self._room()
                if room is None:
                    self._freed.wait(FULL)
                    continue
                found = self._asking.lease(int(self._worker["worker"]), {**room, "wait": self._worker["poll_seconds"]})
                wait = 1.0
                if found is not None and self._take(found) and self._attachment.once:
                    return
            except NotFound:
                self._attach()  # the portal was set up anew
            except (Unauthorized, Forbidden, Conflict) as error:
                self._refused = error
                return
            except PortalError as error:
                if self._draining.is_set():
                    return
                _log.warning("No jobs now: %s", error)
                self._draining.wait(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    def _room(self) -> Json | None:
        """What to say of this worker's free places; None when it has none."""
        capacity = self._engine.capacity()
        with self._lock:
            active = [k for k in self._keepers if k.active]
        coming = [k for k in active if not k.submitted]
        if capacity.free_slots is None:  # the engine queues
            slots, gpus = QUEUED - len(active), capacity.gpus
        else:
            slots = capacity.free_slots - len(coming)
            gpus = capacity.free_gpus - sum(k.lease.gpus for k in coming)
        if slots <= 0:
            return None
        asked = {"free_gpus": max(gpus, 0), "free_slots": slots, "draining": False}
        return {**asked, "registration": self._worker.get("registration")}

    def _take(self, found: Json) -> bool:
        attachment = self._attachment
        lease = Lease(
            url=attachment.url,
            **{name: found[name] for name in ("job", "attempt", "fence", "attempt_token", "spec", "plan_url", "files")},
            resume=found.get("resume"),
            lease_seconds=float(self._worker["lease_seconds"]),
            heartbeat_seconds=float(self._worker["heartbeat_seconds"]),
            staging=attachment.staging,
            python=attachment.python,
            cache_bytes=attachment.cache_bytes,
            offline_grace=attachment.offline_grace,
            ship_seconds=attachment.ship_seconds,
        )
        if self._draining.is_set():
            self._hand_back(lease)
            return False
        spool = Spool.of(self._attempts, lease.job, lease.attempt)
        spool.folder.mkdir(parents=True, exist_ok=True)
        spool.write(LEASE, vars(lease).copy(), durable=True)
        self._keep(spool, lease)
        return True

    def _hand_back(self, lease: Lease) -> None:
        calls = AttemptCalls(lease)
        try:
            calls.complete({"outcome": "preempted", "exit_code": None, "message": "The worker is going away."})
        except PortalError as error:
            _log.warning("%s was not handed back: %s", lease.name, error)
        finally:
            calls.close()

    def _keep(self, spool: Spool, lease: Lease) -> None:
        keeper = Keeper(spool, lease, self._engine)
        with self._lock:  # which looks for keepers that are not active any more
            keeper.start()
            self._keepers.append(keeper)

    def _say_draining(self) -> None:
        if not self._worker:
            return
        asked = {"free_gpus": 0, "free_slots": 0, "draining": True, "registration": self._worker.get("registration")}
        try:
            self._calls.lease(int(self._worker["worker"]), {**asked, "wait": 0})
        except PortalError as error:
            _log.info("The portal was not told: %s", error.message)

    def _hold_folder(self) -> TextIO:
        """Keep the folder for this agent alone: two would run each other's attempts."""
        self._attempts.mkdir(parents=True, exist_ok=True)
        file = (self._attachment.work / "agent.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise UsageError(
                f"Another worker uses the folder {self._attachment.work}.", "Give this one another --work."
            ) from None
        file.write(f"{os.getpid()}\n")
        file.flush()
        return file


def trainer_versions(python: str) -> dict[str, Any]:
    """Versions of Python, torch and transformers where the trainer will run; nothing of it is imported.

    Raises UsageError where that interpreter cannot be started.
    """
    try:
        done = subprocess.run(
            [python, "-c", _VERSIONS], env=clean_environment(), capture_output=True, text=True, timeout=60, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise UsageError(f"{python} does not start: {error}.", "Give an interpreter with torch by --python.") from None
    return dict(found)
