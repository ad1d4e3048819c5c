"""The agent's one way to its engine: one question a tick for all attempts, and one caller at a time."""

from __future__ import annotations

import logging
import threading

from portal.errors import PortalError
from portal.worker.executors import Capacity, EngineState, Executor, Placed, Task

_log = logging.getLogger(__name__)


class Engine:
    """An executor shared by the threads of an agent."""

    def __init__(self, executor: Executor) -> None:
        self.name = executor.name
        self.look_seconds = executor.look_seconds
        self._executor = executor
        self._lock = threading.Lock()
        self._placed: dict[str, Placed] = {}
        self._states: dict[str, EngineState] = {}

    def submit(self, task: Task) -> Placed:
        """Hand a task over, or find it; from then on its state is watched."""
        with self._lock:
            return self._watch(self._executor.submit(task))

    def find(self, task: Task) -> Placed | None:
        """A task of an earlier agent; from then on its state is watched."""
        with self._lock:
            found = self._executor.find(task)
            return None if found is None else self._watch(found)

    def state(self, placed: Placed) -> EngineState:
        """As of the last look."""
        return self._states.get(placed.name, EngineState("unknown", None, "not looked at yet"))

    def cancel(self, placed: Placed, grace: float) -> None:
        """Ask for its end; an engine that does not answer is asked again by the caller's next look."""
        with self._lock:
            try:
                self._executor.cancel(placed, grace)
            except PortalError as error:
                _log.warning("%s could not be cancelled now: %s", placed.name, error)

    def forget(self, placed: Placed) -> None:
        """Watch it no longer."""
        with self._lock:
            self._placed.pop(placed.name, None)
            self._states.pop(placed.name, None)

    def look(self) -> None:
        """Ask for all states."""
        with self._lock:
            if self._placed:
                self._states.update(self._executor.poll(list(self._placed.values())))

    def capacity(self) -> Capacity:
        """Room for further tasks; Unavailable."""
        with self._lock:
            return self._executor.capacity()

    def close(self) -> None:
        """Let go of its connections."""
        self._executor.close()

    def _watch(self, placed: Placed) -> Placed:
        self._placed[placed.name] = placed
        return placed
