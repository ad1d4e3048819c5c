"""What the portal does about jobs by itself: leases of silent workers end, accepted results are published.

After its start a process waits one whole lease before it takes any away: while the portal was down nobody could have
told it anything.
"""

from __future__ import annotations

import logging

from portal.catalog.jobs.attempts import give_up, list_expired
from portal.catalog.jobs.finishing import list_unfinished
from portal.catalog.jobs.rules import JobRules
from portal.database import Engine, open_session
from portal.errors import PortalError
from portal.jobs.completion import finish
from portal.settings import Settings
from portal.watch import Rounds, Watch

DUTY = "jobs"

_log = logging.getLogger(__name__)


class Reaper(Watch):
    """Looks every few seconds, until it is stopped."""

    def __init__(self, settings: Settings, engine: Engine, rules: JobRules) -> None:
        pause = rules.reap_ms / 1000
        super().__init__(engine, Rounds(DUTY, pause, hold_s=3 * pause + 5, first_s=pause))
        self._settings = settings
        self._rules = rules
        self._since = self._last = rules.clock()

    def start(self) -> None:
        """Begin."""
        self._since = self._last = self._rules.clock()
        super().start()

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
