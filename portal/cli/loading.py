"""Importing many modules at once, quickly."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = "httpx._main"
"""httpx's own command line, which it imports where it can and does without where it cannot: pygments and rich, 0.1 s."""


@contextmanager
def fast_imports() -> Iterator[None]:
    """Import no more than is needed, and without garbage collection.

    Imports make much and drop little, and looking through it takes a sixth of the time.
    """
    collecting = gc.isenabled()
    leave_out = UNUSED not in sys.modules
    gc.disable()
    if leave_out:
        sys.modules[UNUSED] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if leave_out:
            del sys.modules[UNUSED]
        if collecting:
            gc.enable()
