"""Pages that need another server wait for it a while and no longer: afterwards they say so."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextvars import copy_context
from functools import cache
from typing import Concatenate, ParamSpec, TypeVar

from sqlmodel import Session

from portal.database import open_session
from portal.errors import Unavailable
from portal.web.deps import Desk

PATIENCE_S = 20.0
"""Seconds a reader of a page waits at most."""
THREADS = 16
"""Pages that wait at once; whoever comes beyond waits for a place, and no longer than the others."""

Result = TypeVar("Result")
Asked = ParamSpec("Asked")


def wait_for(
    desk: Desk, work: Callable[Concatenate[Session, Asked], Result], *args: Asked.args, **named: Asked.kwargs
) -> Result:
    """What ``work`` returns when it is called with a session of its own and ``args``; Unavailable when it takes longer.

    It goes on to its end all the same: what it fetched is kept, so asking again continues there.
    """

    def run() -> Result:
        with open_session(desk.engine) as session:
            return work(session, *args, **named)

    # With the eyes of whoever asks: a thread of a pool has none of its own.
    running = _pool().submit(copy_context().run, run)
    try:
        return running.result(PATIENCE_S)
    except TooLate:
        running.cancel()
        raise Unavailable(
            f"The bytes lie elsewhere and did not come within {PATIENCE_S:g} seconds.",
            "Ask again in a moment: what has come meanwhile is kept here.",
        ) from None


def later(detail: object, tab: str, part: str) -> dict[str, object]:
    """What `fetched.html` needs: the page stands at once and asks for its ``part`` (also the element's id) itself."""
    return {"detail": detail, "tab": tab, "part": part}


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="elsewhere")
