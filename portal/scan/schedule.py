"""Fixity on a schedule: a watch of the serving process that looks at what was not looked at for too long."""

from __future__ import annotations

import threading
from datetime import timedelta

from portal.catalog.checks import list_current_releases
from portal.database import DatabaseFault, Engine, open_session
from portal.scan.amounts import parse_age, parse_rate, parse_sample
from portal.scan.verify import FixityReport, Plan, verify_release
from portal.settings import Settings
from portal.watch import Rounds, Watch

DUTY = "fixity"
HOLD_S = 120.0
"""How long a process may be silent before another takes over."""
LOOK_S = 60.0
"""Seconds between looks at whether something is due."""


class FixityWatch(Watch):
    """Verifies what is due, as PORTAL_VERIFY_EVERY says, until it is stopped."""

    def __init__(self, settings: Settings, engine: Engine, look_s: float = LOOK_S) -> None:
        """Raises UsageError when the schedule cannot be read."""
        every = settings.verify_every
        super().__init__(engine, Rounds(DUTY, look_s, HOLD_S), on=bool(every))
        self._settings = settings
        self.plan = Plan(
            hash_local=True,
            remote=True,
            sample=parse_sample(settings.verify_sample),
            rate=parse_rate(settings.verify_rate),
            older_than=parse_age(every) if every else timedelta(days=36500),
        )

    def work_once(self) -> list[FixityReport] | None:
        """Look at everything that is due; None when another process does.

        A stop ends it within one piece of a file; what was being read stays marked unchecked and comes first next time.
        """
        if not self._hold():
            return None
        done = threading.Event()
        # The duty is renewed beside the work: one file may take longer than it lasts.
        keeper = threading.Thread(target=self._keep_hold, args=(done,), name="fixity-duty", daemon=True)
        keeper.start()
        try:
            return self._verify_all()
        finally:
            done.set()
            keeper.join()
            self._leave()

    def _verify_all(self) -> list[FixityReport]:
        with open_session(self._engine) as session:
            releases = list_current_releases(session)
        reports = []
        for release_id, _run in releases:
            if self._stop.is_set():
                break
            reports.append(verify_release(self._engine, self._settings, release_id, self.plan, stop=self._stop))
        return reports

    def _keep_hold(self, done: threading.Event) -> None:
        while not done.wait(HOLD_S / 4):
            try:
                self._hold()
            except DatabaseFault as error:
                self._log.warning("The duty of fixity could not be renewed: %s", error)
