"""Whether the server is going down: answers that wait for something look here, so that they do not hold it up.

Told to stop, a process first says so (`/readyz`), goes on answering for PORTAL_STOP_DELAY, so that whoever shares out
requests has seen it, and then finishes what it has begun. Every answer from then on ends its connection.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any
from weakref import WeakSet

_stopping: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
_leaving: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

Handler = Callable[[int, FrameType | None], Any]


def mark_stopping() -> None:
    """Said by the server's connections when they are told to finish."""
    _stopping.add(asyncio.get_running_loop())


def is_stopping() -> bool:
    """Whether this process takes no new requests any more."""
    return asyncio.get_running_loop() in _stopping


def is_leaving() -> bool:
    """Whether this process was told to stop: from the signal on, while it still answers everything."""
    loop = asyncio.get_running_loop()
    return loop in _leaving or loop in _stopping


def heed_signals(delay: float) -> None:
    """From now on SIGTERM and SIGINT mark this loop as leaving, and reach the server itself ``delay`` seconds later.

    A second signal reaches it at once. Called inside the running server, whose own handlers are set by then; nothing
    happens outside of a process's main thread, where no signals arrive.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        server = signal.getsignal(number)
        # Python's own handler of Ctrl-C, and none at all, are no server's.
        if callable(server) and server is not signal.default_int_handler:
            signal.signal(number, _heeding(loop, server, delay))


def _heeding(loop: asyncio.AbstractEventLoop, server: Handler, delay: float) -> Handler:
    def heed(number: int, frame: FrameType | None) -> None:
        first = loop not in _leaving
        _leaving.add(loop)
        if first and delay > 0 and not loop.is_closed():
            loop.call_soon_threadsafe(loop.call_later, delay, server, number, None)
        else:
            server(number, frame)

    return heed
