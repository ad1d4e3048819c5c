"""Fixity on a schedule: a thread of the serving process that looks at what was not looked at for too long.

Several processes over one database share the work by a duty that one of them holds at a time; the others look in now
and then, and take over when its time runs out.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from datetime import timedelta

from portal.catalog.checks import list_current_releases
from portal.catalog.duties import leave_duty, take_duty
from portal.database import DatabaseFault, Engine, open_session
from portal.errors import PortalError
from portal.scan.amounts import parse_age, parse_rate, parse_sample
from portal.scan.verify import FixityReport, Plan, verify_release
from portal.settings import Settings

DUTY = "fixity"
HOLD_S = 120.0
"""How long a process may be silent before another takes over."""
LOOK_S = 60.0
"""Seconds between looks at whether something is due."""

_log = logging.getLogger(__name__)


class FixityWatch:
    """Verifies what is due, as PORTAL_VERIFY_EVERY says, until it is stopped."""

    def __init__(self, settings: Settings, engine: Engine, look_s: float = LOOK_S) -> None:
        """Raises UsageError when the schedule cannot be read."""
        self._settings = settings
        self._engine = engine
        self._look_s = look_s
        self._holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        every = settings.verify_every
        self.plan = Plan(
            hash_local=True,
            remote=True,
            sample=parse_sample(settings.verify_sample),
            rate=parse_rate(settings.verify_rate),
            older_than=parse_age(every) if every else timedelta(days=36500),
        )
        self.on = bool(every)

    def start(self) -> None:
        """Begin, where a schedule is set."""
        if self.on:
            self._threads = [threading.Thread(target=self._run, name="fixity", daemon=True)]
            self._threads[0].start()

    def stop(self) -> None:
        """End within one piece of a file; what was being read stays marked unchecked and comes first next time."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def work_once(self) -> list[FixityReport] | None:
        """Look at everything that is due; None when another process does."""
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

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.work_once()
            except (PortalError, DatabaseFault) as error:
                # The next look may find the database or the store in better health.
                _log.warning("Fixity on a schedule stopped early: %s", error)
            self._stop.wait(self._look_s)

    def _verify_all(self) -> list[FixityReport]:
        with open_session(self._engine) as session:
            releases = list_current_releases(session)
        reports = []
        for release_id, _run in releases:
            if self._stop.is_set():
                break
            reports.append(verify_release(self._engine, self._settings, release_id, self.plan, stop=self._stop))
        return reports

    def _hold(self) -> bool:
        with open_session(self._engine) as session:
            held = take_duty(session, DUTY, self._holder, HOLD_S)
            session.commit()
            return held

    def _keep_hold(self, done: threading.Event) -> None:
        while not done.wait(HOLD_S / 4):
            try:
                self._hold()
            except DatabaseFault as error:
                _log.warning("The duty of fixity could not be renewed: %s", error)

    def _leave(self) -> None:
        with open_session(self._engine) as session:
            leave_duty(session, DUTY, self._holder)
            session.commit()
