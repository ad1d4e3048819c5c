"""Trying again: what may pass is tried a few times with growing, scattered pauses, and never for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from portal.errors import PortalError

Result = TypeVar("Result")

PASSING_STATES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP answers that another try may turn into a good one."""
SLOWEST = 64 << 10
"""Bytes a second below which an answer counts as hanging."""


@dataclass(frozen=True)
class Patience:
    """How long and how often a store asks."""

    attempts: int = 4
    timeout_s: float = 20.0
    """Seconds of silence after which a connection is given up."""
    pause_s: float = 0.2
    longest_connect_s: float = 5.0
    longest_pause_s: float = 5.0

    @property
    def connect_s(self) -> float:
        """Seconds for which a connection is waited for: less than for an answer, because nothing is being prepared."""
        return min(self.timeout_s, self.longest_connect_s)

    def deadline_s(self, length: int) -> float:
        """Seconds one answer of ``length`` bytes may take in all, so that a trickle ends too."""
        return self.timeout_s + length / SLOWEST


class Passing(Exception):
    """A failure that may pass; ``after`` is what the server asked to wait, in seconds."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.after = after


def persist(patience: Patience, attempt: Callable[[], Result], lost: Callable[[str], PortalError]) -> Result:
    """The first good result of ``attempt``; ``lost`` makes the error of the last failure once tries are used up."""
    for number in range(1, patience.attempts + 1):
        try:
            return attempt()
        except Passing as failure:
            if number == patience.attempts:
                tries = f" ({number} tries)" if number > 1 else ""
                raise lost(f"{failure.what}{tries}") from None
            time.sleep(_pause(patience, number, failure.after))
    raise AssertionError("attempts are at least one")


def _pause(patience: Patience, number: int, after: float | None) -> float:
    longest = min(patience.pause_s * 2.0 ** (number - 1), patience.longest_pause_s)
    # Scattered, so that readers that failed together do not come back together.
    pause = longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret depends on it
    return min(max(pause, after or 0.0), patience.longest_pause_s)
