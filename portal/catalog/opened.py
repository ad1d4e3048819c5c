"""What was opened lately and may be used again: decoders shared, readers lent to one request at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

Kept = TypeVar("Kept")


class Opened:
    """What was opened lately, bounded; closing is left to its last user."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """The one opened before under ``key``, or a new one; None is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: Kept = self._kept[key]
                return found
        made = make()
        if made is None:
            return made
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made


class Lent(Generic[Kept]):
    """What was opened lately, each in one hand at a time: what it counts meanwhile is that hand's alone.

    Bounded while nobody uses them; closing is left to their end of life.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: OrderedDict[Hashable, list[Kept]] = OrderedDict()
        self._count = 0
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, key: Hashable, make: Callable[[], Kept]) -> Iterator[Kept]:
        """One opened before under ``key`` that nobody uses, or a new one."""
        held = self._take(key)
        one = held[0] if held else make()
        try:
            yield one
        finally:
            self._give_back(key, one)

    def _take(self, key: Hashable) -> list[Kept]:
        with self._lock:
            same = self._idle.get(key)
            if not same:
                return []
            self._count -= 1
            found = same.pop()
            if not same:
                del self._idle[key]
            return [found]

    def _give_back(self, key: Hashable, one: Kept) -> None:
        with self._lock:
            self._idle.setdefault(key, []).append(one)
            self._idle.move_to_end(key)
            self._count += 1
            while self._count > self._most:
                oldest = next(iter(self._idle))
                self._count -= 1
                self._idle[oldest].pop(0)
                if not self._idle[oldest]:
                    del self._idle[oldest]
