"""What is left over goes after a while: checkpoints of ended jobs, uploads that nothing came of, blobs without a reference.

A thread of every serving process; a duty in the database lets one of them work at a time. What any run, of whatever
version, or any job that may still be tried again needs, stays.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from datetime import timedelta

from portal.catalog.duties import leave_duty, take_duty
from portal.catalog.jobs.leftovers import give_up_outputs
from portal.catalog.jobs.rules import JobRules
from portal.database import DatabaseFault, Engine, open_session
from portal.errors import PortalError
from portal.exchange.unreferenced import StoreReport, remove_unreferenced
from portal.scan.amounts import parse_age
from portal.settings import Settings

DUTY = "leftovers"
EVERY_S = 6 * 3600.0
"""Seconds between two looks; the duty is held as long, so that of several processes one looks."""
FIRST_S = 300.0
"""Seconds after its start before a process looks for the first time."""

_log = logging.getLogger(__name__)


class LeftoverWatch:
    """Removes what is older than PORTAL_LEFTOVERS_AFTER, until it is stopped."""

    def __init__(self, settings: Settings, engine: Engine, rules: JobRules) -> None:
        """Raises UsageError when the age cannot be read."""
        self._settings = settings
        self._engine = engine
        self._rules = rules
        self._holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._age: timedelta | None = parse_age(settings.leftovers_after) if settings.leftovers_after else None

    def start(self) -> None:
        """Begin, where an age is set."""
        if self._age is not None:
            self._thread = threading.Thread(target=self._run, name="leftovers", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the removal that is on its way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def work_once(self) -> StoreReport | None:
        """Give up what is due; None when another process does this, or no age is set."""
        if self._age is None or not self._hold():
            return None
        given = give_up_outputs(self._engine, self._age, self._rules)
        report = remove_unreferenced(self._engine, self._settings, self._age)
        if given or report.unreferenced:
            told = (given, len(report.unreferenced), report.unreferenced_bytes)
            _log.info("Given up: %d checkpoints of ended jobs; removed %d files, %d bytes.", *told)
        return report

    def _run(self) -> None:
        wait = FIRST_S
        while not self._stop.wait(wait):
            wait = EVERY_S
            try:
                self.work_once()
            except (PortalError, DatabaseFault, OSError) as error:
                # The next look may find the database or the store in better health.
                _log.warning("Leftovers were not looked for to the end: %s", error)
        if self._thread is not None:
            self._leave()

    def _hold(self) -> bool:
        with open_session(self._engine) as session:
            held = take_duty(session, DUTY, self._holder, EVERY_S / 2)
            session.commit()
            return held

    def _leave(self) -> None:
        try:
            with open_session(self._engine) as session:
                leave_duty(session, DUTY, self._holder)
                session.commit()
        except DatabaseFault as error:
            _log.warning("The duty of leftovers could not be given back: %s", error)
