"""Heartbeats: a thread of its own, so that no download, upload or full disk ever keeps the lease from being renewed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from portal.errors import PortalError, StaleLease, Unavailable
from portal.worker.calls import AttemptCalls
from portal.worker.spool import Json
from portal.worker.supervision import FENCED, GRACEFUL, KILL, NO, OFFLINE

FIRST_WAIT = 0.5
"""Seconds before a heartbeat that got no answer is repeated; each further one waits twice as long."""

_RANK = {NO: 0, OFFLINE: 1, GRACEFUL: 2, KILL: 3, FENCED: 4}


class Heartbeat:
    """Renews the lease and hears whether to stop.

    `wish` is ``graceful`` (save and stop), ``kill``, ``fenced`` (the attempt has no right to run any more) or
    ``offline`` (nothing was heard for ``offline_grace`` seconds); it only ever gets stronger. Only durations are
    compared, so a clock that is hours off changes nothing.
    """

    def __init__(self, calls: AttemptCalls, every: float, offline_grace: float, status: Callable[[], Json]) -> None:
        self.wish = NO
        self.reason = ""
        self.stopping = threading.Event()
        """Set with the first wish to stop."""
        self._calls = calls
        self._every = every
        self._grace = offline_grace
        self._status = status
        self._now = threading.Event()
        self._ended = threading.Event()
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Say nothing more; waits for the heartbeat that is on its way."""
        self._ended.set()
        self._now.set()
        if self._thread.is_alive():
            self._thread.join()

    def hurry(self) -> None:
        """Tell the portal now: the phase has changed."""
        self._now.set()

    def wish_for(self, wish: str, reason: str = "") -> None:
        """Note a wish to stop, from here or elsewhere; a weaker one than before changes nothing."""
        if _RANK[wish] > _RANK[self.wish]:
            self.wish, self.reason = wish, reason
            self.stopping.set()

    def check(self) -> None:
        """Raise Stopped when a wish to stop has come: for work that can be broken off."""
        if self.stopping.is_set():
            raise Stopped(self.wish)

    def _run(self) -> None:
        failures = 0
        while not self._ended.is_set():
            failures = 0 if self._beat() else failures + 1
            wait = min(FIRST_WAIT * 2 ** (failures - 1), self._every) if failures else self._every
            self._now.wait(wait)
            self._now.clear()

    def _beat(self) -> bool:
        try:
            cancel = self._calls.heartbeat(self._status())
        except StaleLease as error:
            self.wish_for(FENCED, error.message)
            self._ended.set()
            return True
        except PortalError as error:
            if time.monotonic() - self._heard > self._grace:
                self.wish_for(OFFLINE, f"The portal was not heard of for {self._grace:.0f} seconds: {error.message}")
            return not isinstance(error, Unavailable)
        self._heard = time.monotonic()
        if cancel in (GRACEFUL, KILL):
            self.wish_for(cancel, "Cancelled.")
        return True


class Stopped(Exception):
    """Work was broken off because the attempt is to stop."""

    def __init__(self, wish: str) -> None:
        super().__init__(wish)
        self.wish = wish
