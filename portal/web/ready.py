"""Whether this process can do its work: one look at each part it needs, bounded in time and remembered for a moment."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from dataclasses import dataclass

from portal.database import DatabaseFault, Engine, check_schema
from portal.errors import PortalError, StorageFull
from portal.settings import Settings
from portal.storage.blobs import open_blobs
from portal.storage.room import check_disk

REMEMBERED_S = 2.0
"""However often it is asked, the database and the store are looked at no more often than this."""
PATIENCE_S = 2.0
"""Seconds after which a look counts as failed; it is not waited for any longer."""
OK, FAILED, LOW = "ok", "failed", "low"
NOTHING = "0" * 64
"""A digest no file has."""


@dataclass(frozen=True)
class Check:
    """One part, and how it was found."""

    name: str
    state: str
    """``ok``; ``low`` (reading works, writing is refused); ``failed``."""
    seconds: float
    told: str = ""


class Readiness:
    """Looks at the database, its schema, the store and the disk."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._lock = threading.Lock()
        self._found: tuple[float, list[Check]] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._running: dict[str, object] = {}

    def look(self) -> list[Check]:
        """Every check, found within the last two seconds; whoever comes meanwhile waits for the same look."""
        with self._lock:
            if self._found is None or time.monotonic() - self._found[0] > REMEMBERED_S:
                found = self._look_now()
                self._found = time.monotonic(), found
            return self._found[1]

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _look_now(self) -> list[Check]:
        looks: dict[str, Callable[[], None]] = {
            "database": self._database,
            "storage": self._storage,
            "data": self._data,
            "disk": self._disk,
        }
        if self._pool is None:
            self._pool = ThreadPoolExecutor(len(looks), thread_name_prefix="ready")
        began = time.monotonic()
        waiting = {name: self._pool.submit(_timed, look) for name, look in looks.items()}
        checks = []
        for name, running in waiting.items():
            try:
                seconds, told = running.result(max(0.0, began + PATIENCE_S - time.monotonic()))
            except TooLate:
                running.cancel()
                seconds, told = PATIENCE_S, f"did not answer within {PATIENCE_S:g} seconds"
            bad = LOW if name == "disk" else FAILED
            checks.append(Check(name, bad if told else OK, round(seconds, 4), told))
        return checks

    def _database(self) -> None:
        try:
            check_schema(self._engine, dispose=False)
        except DatabaseFault:
            raise _Fault("The database does not answer.") from None

    def _storage(self) -> None:
        open_blobs(self._settings).has(NOTHING)

    def _data(self) -> None:
        if not os.access(self._settings.data, os.R_OK | os.W_OK | os.X_OK):
            raise _Fault("The data folder cannot be read or written.")

    def _disk(self) -> None:
        with suppress(FileNotFoundError):
            check_disk(self._settings, 0)


class _Fault(Exception):
    """What a look found, in words without addresses or names of this machine."""


def _timed(look: Callable[[], None]) -> tuple[float, str]:
    began = time.monotonic()
    told = ""
    try:
        look()
    except StorageFull as error:
        told = error.message
    except (_Fault, PortalError) as error:
        told = error.message if isinstance(error, PortalError) else str(error)
    except Exception as error:
        # Whatever it is, the part cannot be used; its own words may name what only the operator should know.
        told = f"It failed ({type(error).__name__})."
    return time.monotonic() - began, told
