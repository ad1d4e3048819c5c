"""How fast bytes may be read: a rate that several threads share, and a way to stop them within one piece."""

from __future__ import annotations

import threading
import time


class Stopped(Exception):
    """The caller was told to stop; what was under way is left as it is."""


class Pace:
    """Lets bytes pass at ``rate`` a second on average; no rate lets them pass at once."""

    def __init__(self, rate: int | None = None, stop: threading.Event | None = None) -> None:
        self._rate = rate
        self._stop = stop or threading.Event()
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def spend(self, count: int) -> None:
        """Account for bytes just read and wait until the next may be; Stopped at once when told to stop."""
        wait = 0.0
        if self._rate:
            with self._lock:
                # Time not used is not saved up: a pause is not followed by a burst.
                self._free_at = max(self._free_at, time.monotonic()) + count / self._rate
                wait = self._free_at - time.monotonic()
        if self._stop.wait(wait) if wait > 0 else self._stop.is_set():
            raise Stopped

    def check(self) -> None:
        """Stopped when told to stop."""
        if self._stop.is_set():
            raise Stopped
