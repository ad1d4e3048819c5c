"""What the portal's processes count: requests by route, status and time, bytes, refusals; summed over all of them.

Every process adds to a row of its own, so nothing is locked. A row outlives its process and is gone on with by the
next one, so that sums only ever rise, also when processes are replaced.
"""

from __future__ import annotations

import hashlib
import re
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from portal.web.door.shared import claim_doubles, is_held

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper ends of the buckets of durations, in seconds; one more holds what took longer."""
STATUSES = (
    200, 201, 202, 204, 206, 302, 303, 304, 307, 400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 416, 422, 429, 431,
    499, 500, 503, 507,
)  # fmt: skip
"""Told one by one; any other is told as its hundred. 499: the client hung up before it was answered."""
HUNDREDS = (100, 200, 300, 400, 500)
NO_ROUTE = "(none)"
"""Addresses where nothing is."""
REFUSED = "(refused)"
"""Requests that were refused at the door."""
KINDS = ("reads", "files", "costly", "writes", "workers", "sign-ins", "bad-tokens")
GAUGES = ("in_flight", "running", "waiting", "kept_answers", "kept_bytes", "pool_size", "pool_used", "started")
"""Of one process now; what a process that ended left behind does not count."""
TOTALS = ("kept_hits", "kept_misses", "shed", *(f"limited:{kind}" for kind in KINDS))
MOST_PROCESSES = 64
KNOWN_PATHS = 4096


@dataclass(frozen=True)
class Summed:
    """All processes together."""

    processes: int
    requests: dict[tuple[str, int], float]
    """By route (`METHOD template`) and status."""
    times: dict[str, list[float]]
    """By route: requests in each bucket, then the seconds of all of them."""
    bytes: dict[str, float]
    totals: dict[str, float]
    gauges: dict[str, float]


@dataclass
class Routes:
    """Templates of addresses, found by the address where the framework was not asked."""

    templates: Sequence[str]
    numbers: dict[str, int] = field(init=False)
    _patterns: list[tuple[re.Pattern[str], int]] = field(init=False)
    _known: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Compile them, those with the least open parts first."""
        self.numbers = {template: k for k, template in enumerate(self.templates)}
        by_openness = sorted(self.templates, key=lambda t: (t.count(":path"), t.count("{"), -len(t)))
        self._patterns = [(_pattern(t), self.numbers[t]) for t in by_openness if t.startswith("/")]

    def find(self, path: str) -> int:
        """Number of the template an address fits, that of `NO_ROUTE` for none; addresses that come often are remembered."""
        known = self._known.get(path)
        if known is None:
            known = next((k for pattern, k in self._patterns if pattern.match(path)), self.numbers[NO_ROUTE])
            if len(self._known) >= KNOWN_PATHS:
                self._known.clear()
            self._known[path] = known
        return known


class Counters:
    """The counts of this process, and the sums of all."""

    def __init__(self, folder: Path | None, templates: Sequence[str]) -> None:
        self.routes = Routes([NO_ROUTE, REFUSED, *sorted(set(templates))])
        self._names = [*STATUSES, *HUNDREDS]
        self._status = {status: k for k, status in enumerate(self._names)}
        self._per_route = len(self._names) + len(BOUNDS) + 2 + 1
        self._of_totals = len(GAUGES)
        self._of_routes = self._of_totals + len(TOTALS)
        self._length = self._of_routes + self._per_route * len(self.routes.templates)
        layout = repr((GAUGES, TOTALS, self._names, BOUNDS, self.routes.templates)).encode()
        self._folder = folder
        self._name = f"counters-{hashlib.sha256(layout).hexdigest()[:12]}"
        self._row, self._path = claim_doubles(self._folder, self._name, MOST_PROCESSES, self._length)
        self._totals = {name: self._of_totals + k for k, name in enumerate(TOTALS)}
        self._gauges = {name: k for k, name in enumerate(GAUGES)}
        for k in range(len(GAUGES)):
            self._row[k] = 0.0
        self.set("started", time.time())
        self.in_flight = 0
        """Requests of this process that are not answered yet."""

    def begin(self) -> None:
        """A request came."""
        self.in_flight += 1
        self._row[0] = self.in_flight

    def end(self, route: int, status: int, seconds: float, sent: int) -> None:
        """It was answered."""
        row, at = self._row, self._of_routes + route * self._per_route
        self.in_flight -= 1
        row[0] = self.in_flight
        found = self._status.get(status)
        row[at + (found if found is not None else self._status.get(status // 100 * 100, 0))] += 1
        at += len(self._names)
        row[at + bisect_left(BOUNDS, seconds)] += 1
        row[at + len(BOUNDS) + 1] += seconds
        row[at + len(BOUNDS) + 2] += sent

    def add(self, total: str, more: int = 1) -> None:
        """So many more."""
        self._row[self._totals[total]] += more

    def set(self, name: str, value: float) -> None:
        """A gauge of this process."""
        self._row[self._gauges[name]] = value

    def sum(self) -> Summed:
        """All processes together, those that ended included."""
        rows = [(True, self._row), *self._others()]
        alive = [row for held, row in rows if held]
        gauges = {name: sum(row[k] for row in alive) for name, k in self._gauges.items()}
        gauges["started"] = min(row[self._gauges["started"]] for row in alive)
        total = [sum(values) for values in zip(*(row for _, row in rows), strict=True)]
        requests: dict[tuple[str, int], float] = {}
        times, sent = {}, {}
        for number, template in enumerate(self.routes.templates):
            at = self._of_routes + number * self._per_route
            counted = dict(zip(self._names, total[at : at + len(self._names)], strict=True))
            if not any(counted.values()):
                continue
            requests |= {(template, status): n for status, n in counted.items() if n}
            at += len(self._names)
            times[template] = total[at : at + len(BOUNDS) + 2]
            sent[template] = total[at + len(BOUNDS) + 2]
        totals = {name: total[at] for name, at in self._totals.items()}
        return Summed(len(alive), requests, times, sent, totals, gauges)

    def _others(self) -> Iterator[tuple[bool, Sequence[float]]]:
        for number in range(MOST_PROCESSES if self._folder is not None else 0):
            assert self._folder is not None  # noqa: S101 - as the range says
            path = self._folder / f"{self._name}-{number}"
            if path == self._path:
                continue
            with suppress(OSError):
                held, found = is_held(path), path.read_bytes()
                if len(found) == self._length * 8:
                    yield held, memoryview(found).cast("d")


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]*\})", template)
    inside = "".join((".+" if p.endswith(":path}") else "[^/]+") if p.startswith("{") else re.escape(p) for p in parts)
    return re.compile(f"^{inside}/?$")
