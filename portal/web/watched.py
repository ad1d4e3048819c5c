"""What one process tells of itself and of the catalog to whoever watches over it."""

from __future__ import annotations

import threading
import time
from contextvars import Context
from typing import TYPE_CHECKING

from portal.catalog.condition import Condition, read_condition
from portal.catalog.jobs.rules import JobRules
from portal.database import pool_numbers
from portal.web.door.clients import Networks
from portal.web.door.counters import Counters
from portal.web.door.places import Places
from portal.web.ready import Readiness

if TYPE_CHECKING:
    from portal.web.deps import Desk
    from portal.web.kept import AnswerShelf

CONDITION_S = 5.0
"""However often it is asked, the catalog is counted no more often than this."""


class Watched:
    """What this process tells of itself; made once by `create_app`."""

    def __init__(self, desk: Desk, counters: Counters, places: tuple[Places, Places], shelf: AnswerShelf) -> None:
        self.readiness = Readiness(desk.settings, desk.engine)
        self.counters = counters
        self.open_to = Networks(desk.settings.metrics_from, "PORTAL_METRICS_FROM")
        self._desk = desk
        self._places = places
        self._shelf = shelf
        self._told = (0, 0)
        self._lock = threading.Lock()
        self._condition: tuple[float, Condition] | None = None

    def condition(self, rules: JobRules) -> Condition:
        """The catalog's numbers, at most five seconds old."""
        with self._lock:
            if self._condition is None or time.monotonic() - self._condition[0] > CONDITION_S:
                # Of all runs, whoever happens to ask: an empty context has nobody's eyes.
                found = Context().run(read_condition, self._desk.engine, rules)
                self._condition = time.monotonic(), found
            return self._condition[1]

    def note(self) -> None:
        """Put the numbers of this process that change elsewhere where those of all processes are summed."""
        shelf = self._shelf
        before, self._told = self._told, (shelf.hits, shelf.misses)
        self.counters.add("kept_hits", self._told[0] - before[0])
        self.counters.add("kept_misses", self._told[1] - before[1])
        size, used = pool_numbers(self._desk.engine)
        gauges = {
            "running": sum(p.running for p in self._places),
            "waiting": sum(p.waiting for p in self._places),
            "kept_answers": len(shelf),
            "kept_bytes": shelf.bytes,
            "pool_size": size,
            "pool_used": used,
        }
        for name, value in gauges.items():
            self.counters.set(name, value)

    def close(self) -> None:
        """Tell the last numbers, and let threads go."""
        self.note()
        self.readiness.close()
