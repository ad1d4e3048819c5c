"""What is left over goes after a while: checkpoints of ended jobs, uploads that nothing came of, blobs without a reference.

What any run, of whatever version, or any job that may still be tried again needs, stays.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from portal.catalog.jobs.leftovers import give_up_outputs
from portal.catalog.jobs.rules import JobRules
from portal.database import Engine
from portal.exchange.unreferenced import StoreReport, remove_unreferenced
from portal.scan.amounts import parse_age
from portal.settings import Settings
from portal.watch import Rounds, Watch

DUTY = "leftovers"
EVERY_S = 6 * 3600.0
"""Seconds between two looks; the duty is held half as long, so that of several processes one looks."""
FIRST_S = 300.0
"""Seconds after its start before a process looks for the first time."""

_log = logging.getLogger(__name__)


class LeftoverWatch(Watch):
    """Removes what is older than PORTAL_LEFTOVERS_AFTER, until it is stopped."""

    def __init__(self, settings: Settings, engine: Engine, rules: JobRules) -> None:
        """Raises UsageError when the age cannot be read."""
        after = settings.leftovers_after
        super().__init__(engine, Rounds(DUTY, EVERY_S, hold_s=EVERY_S / 2, first_s=FIRST_S), on=bool(after))
        self._settings = settings
        self._rules = rules
        self._age: timedelta | None = parse_age(after) if after else None

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
