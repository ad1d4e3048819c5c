"""What the portal does about jobs by itself: leases of silent workers end, accepted results are published.

A thread of every serving process; a duty in the database lets one of them work at a time. After its start a process
waits one whole lease before it takes any away: while the portal was down nobody could have told it anything.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading

from portal.catalog.duties import leave_duty, take_duty
from portal.catalog.jobs.attempts import give_up, list_expired
from portal.catalog.jobs.finishing import list_unfinished
from portal.catalog.jobs.rules import JobRules
from portal.database import DatabaseFault, Engine, open_session
from portal.errors import PortalError
from portal.jobs.completion import finish
from portal.settings import Settings

DUTY = "jobs"

_log = logging.getLogger(__name__)


class Reaper:
    """Looks every few seconds, until it is stopped."""

    def __init__(self, settings: Settings, engine: Engine, rules: JobRules) -> None:
        self._settings = settings
        self._engine = engine
        self._rules = rules
        self._holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._since = self._last = rules.clock()

    def start(self) -> None:
        """Begin."""
        self._since = self._last = self._rules.clock()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and let another process take over at once."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def work_once(self) -> list[int]:
        """The jobs whose leases were taken away; none when another process does this."""
        now = self._rules.clock()
        if now - self._last > self._rules.lease_ms:
            # This process itself was stopped for a while (a suspended machine): it has heard nobody since.
            self._since = now
        self._last = now
        if not self._hold():
            return []
        self._finish_accepted()
        return self._reap() if now - self._since >= self._rules.lease_ms else []

    def _reap(self) -> list[int]:
        with open_session(self._engine) as session:
            expired = list_expired(session, self._rules)
        return [key.job for key in expired if give_up(self._engine, key, self._rules) is not None]

    def _finish_accepted(self) -> None:
        with open_session(self._engine) as session:
            jobs = list_unfinished(session)
        for job in jobs:
            try:
                finish(self._engine, self._settings, job, self._rules)
            except PortalError as error:
                _log.warning("The result of job %d could not be published yet: %s", job, error)

    def _run(self) -> None:
        pause = self._rules.reap_ms / 1000
        while not self._stop.wait(pause):
            try:
                self.work_once()
            except (PortalError, DatabaseFault) as error:
                # The next look may find the database or the store in better health.
                _log.warning("Looking after jobs stopped early: %s", error)
        self._leave()

    def _hold(self) -> bool:
        with open_session(self._engine) as session:
            held = take_duty(session, DUTY, self._holder, self._rules.reap_ms / 1000 * 3 + 5)
            session.commit()
            return held

    def _leave(self) -> None:
        try:
            with open_session(self._engine) as session:
                leave_duty(session, DUTY, self._holder)
                session.commit()
        except DatabaseFault as error:
            _log.warning("The duty of looking after jobs could not be given back: %s", error)
