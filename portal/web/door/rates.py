"""How often one client may ask: a quota a minute for each kind of request, counted in memory all processes share.

A quota is a bucket that fills evenly (GCRA: one moment a bucket, "when it would be full again"), so a burst of a whole
minute's quota passes and the mean is held. Buckets lie in a table of fixed size; where it is crowded, the bucket
nearest to full is given up, so that nobody can make the portal's memory grow. Two processes that count the same client
in the same microsecond may count one request for two: a limit is not a price.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from portal.errors import UsageError
from portal.web.door.shared import map_doubles

WINDOW_S = 60.0
DEFAULTS = {
    "reads": 12_000,
    "files": 60_000,
    "costly": 1_200,
    "writes": 3_000,
    "workers": 60_000,
    "sign-ins": 20,
    "bad-tokens": 600,
}
"""Requests a minute of one address; with a token that is good, ``token`` times as many under the token's name."""
TIMES = "token"
TOKEN_TIMES = 10
BUCKETS = 1 << 16
_PROBED = 4
_SALT_DOUBLES = 4
_MOST_PLACES = 65_536


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests of one kind a minute."""

    kind: str
    most: int
    interval: float
    """Seconds in which one of them comes back."""
    policy: bytes
    """As the answer's `RateLimit-Policy` tells it."""


class Taken(NamedTuple):
    """What a request was told."""

    left: int
    """Further requests that would pass now; below 0: this one does not."""
    seconds: float
    """Until all of the quota is there again; for one that does not pass, until it would."""


def read_quotas(told: str) -> tuple[dict[str, Quota], dict[str, Quota]]:
    """Quotas of addresses and of tokens from ``reads=600,costly=60,token=10`` or ``off``; what is not named keeps its
    default, 0 means no limit. UsageError."""
    numbers = dict(DEFAULTS) | {TIMES: TOKEN_TIMES}
    if told.strip() == "off":
        return {}, {}
    for part in filter(None, (p.strip() for p in told.split(","))):
        kind, _, number = part.partition("=")
        if kind not in numbers or not number.isascii() or not number.isdigit() or len(number) > 9:
            raise UsageError(
                f"PORTAL_RATES cannot be used: {part[:50]!r}.",
                f"Write `off`, or numbers a minute by commas: {', '.join(f'{k}={v}' for k, v in numbers.items())}.",
            )
        numbers[kind] = int(number)
    times = max(numbers.pop(TIMES), 1)
    return _quotas(numbers, 1), _quotas(numbers, times)


class Rates:
    """The buckets of one `portal serve`: of all its processes where they share a folder."""

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        length = _SALT_DOUBLES + 2 * BUCKETS
        self._table, self.shared = map_doubles(folder / f"rates-{BUCKETS}" if folder else None, length)
        self._clock = clock
        self._salt = self._read_salt()
        self._places: dict[tuple[str, str], tuple[int, float]] = {}

    def take(self, quota: Quota, client: str, charge: bool = True) -> Taken:
        """Count one request of ``client``, or (without ``charge``) only tell whether it would pass."""
        table, now = self._table, self._clock()
        place = self._places.get((quota.kind, client)) or self._find_place(quota.kind, client)
        at = self._slot(place, now)
        full = table[at + 1] if table[at] == place[1] else now
        if not now <= full <= now + WINDOW_S:
            # Nothing used, or what another start of the machine has left there.
            full = now
        after = full + quota.interval
        if after - now > WINDOW_S + 1e-9:
            return Taken(-1, after - now - WINDOW_S)
        if charge:
            table[at], table[at + 1] = place[1], after
        return Taken(int((WINDOW_S - after + now) / quota.interval + 1e-6), after - now)

    def _slot(self, place: tuple[int, float], now: float) -> int:
        """The bucket's own place among four, or the one that is nearest to full."""
        table, (first, tag) = self._table, place
        if table[first] == tag:
            return first
        best, least = first, math.inf
        for k in range(_PROBED):
            at = _SALT_DOUBLES + (first - _SALT_DOUBLES + 2 * k) % (2 * BUCKETS)
            if table[at] == tag:
                return at
            until = table[at + 1]
            until = until if now <= until <= now + WINDOW_S else now
            if until < least:
                best, least = at, until
        return best

    def _find_place(self, kind: str, client: str) -> tuple[int, float]:
        digest = hashlib.blake2b(f"{kind} {client}".encode(), digest_size=12, key=self._salt).digest()
        place = (
            _SALT_DOUBLES + 2 * (int.from_bytes(digest[:4], "big") % BUCKETS),
            float(1 + (int.from_bytes(digest[4:], "big") >> 12)),
        )
        if len(self._places) >= _MOST_PLACES:
            self._places.clear()
        self._places[kind, client] = place
        return place

    def _read_salt(self) -> bytes:
        """Random, the same for all processes: whoever knew the places could crowd somebody else's bucket."""
        head = self._table[:_SALT_DOUBLES]
        if not any(head.cast("B")):
            head.cast("B")[:] = os.urandom(8 * _SALT_DOUBLES)
        return bytes(head.cast("B"))


def _quotas(numbers: dict[str, int], times: int) -> dict[str, Quota]:
    return {
        kind: Quota(kind, n * times, WINDOW_S / (n * times), f'"{kind}";q={n * times};w={WINDOW_S:.0f}'.encode())
        for kind, n in numbers.items()
        if n
    }
