"""One request as logs, limits and counters know it; it travels in the request's scope and in a context variable."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count

from starlette.types import Scope

ASKED = "portal.asked"
SANE_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
"""Request ids that a proxy may bring: nothing that could break a line of a log."""

_counter = count(1)
_process = ""


@dataclass(slots=True)
class Asked:
    """What is known of one request."""

    id: str
    address: str
    """Of the client, behind trusted proxies."""
    client: str
    """What its limits are counted under: the address, for IPv6 its /64."""
    trusted: bool = False
    """Whether it came through a proxy whose word counts."""
    began: float = 0.0
    """By `time.perf_counter`."""
    caller: str = ""
    """Name of the token it came with, once that was found good."""
    route: str = ""
    """Template of the route that answered."""
    sent: int = 0
    """Bytes of the answer's body."""


current: ContextVar[Asked | None] = ContextVar("portal_asked", default=None)
"""The request that is being answered here, also in threads that work for it."""


def asked_of(scope: Scope) -> Asked | None:
    """The request's own; None where nobody stands at the door (an application under test, a part of it)."""
    found: Asked | None = scope.get(ASKED)
    return found


def new_id() -> str:
    """Not guessable beforehand, as it is no secret but should not be mistaken; different in every process."""
    global _process
    if not _process:
        _process = os.urandom(6).hex()
    return f"{_process}-{next(_counter):x}"


def forget_process() -> None:
    """A forked process takes a beginning of its own."""
    global _process
    _process = ""


os.register_at_fork(after_in_child=forget_process)
