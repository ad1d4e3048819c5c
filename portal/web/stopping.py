"""Whether the server is going down: answers that wait for something look here, so that they do not hold it up."""

from __future__ import annotations

import asyncio
from weakref import WeakSet

_stopping: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def mark_stopping() -> None:
    """Said by the server's connections when they are told to finish."""
    _stopping.add(asyncio.get_running_loop())


def is_stopping() -> bool:
    """Whether this process takes no new requests any more."""
    return asyncio.get_running_loop() in _stopping
