"""What every executor takes and gives: a task in, a place of it and its state out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from portal.errors import PortalError, UsageError

Kind = Literal["pending", "running", "exited", "cancelled", "node_lost", "unknown", "gone"]
ENDED: frozenset[Kind] = frozenset({"exited", "cancelled", "node_lost", "gone"})

GRACE = 60.0
"""Seconds between a request to stop and the end by force."""


class EngineBusy(PortalError):
    """The engine has no room for this task now; submit it again later."""

    status = 503
    code = "engine-busy"


class EngineRefused(PortalError):
    """The engine will never run this task as it is asked for, e.g. more GPUs than any node has."""

    status = 422
    code = "engine-refused"


@dataclass(frozen=True)
class Task:
    """One attempt as an engine sees it."""

    name: str
    """``portal-<portal>-<job>-<attempt>``; the engine's own ids may be given twice, this name is not."""
    spool: Path
    """The attempt's folder; the engine's nodes see it under the same path."""
    command: Sequence[str]
    gpus: int = 0
    cpus: int = 1
    memory: int | None = None
    """Bytes."""
    seconds: int | None = None
    """Time limit."""
    grace: float = GRACE
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further variables of the command; secrets travel in files of the spool."""


@dataclass(frozen=True)
class Placed:
    """A task that an engine was given: what to find it by."""

    name: str
    spool: Path
    id: str
    """The engine's own: a pid, a Slurm job id, a Ray submission id."""


@dataclass(frozen=True)
class EngineState:
    """What became of a task, as far as its engine and its exit file tell."""

    kind: Kind
    code: int | None = None
    """Exit code of an exited task; 128 + signal where a signal ended it."""
    detail: str = ""
    """In the engine's words, e.g. why it waits."""

    @property
    def ended(self) -> bool:
        """True where nothing more will come of it."""
        return self.kind in ENDED


@dataclass(frozen=True)
class Capacity:
    """What the engine could take now; None where it does not tell."""

    free_gpus: int
    gpus: int
    free_slots: int | None = None
    """Further tasks without a GPU; None where the engine queues them itself."""


class Executor(Protocol):
    """Runs tasks of one engine. Calls are short: none waits for a task."""

    name: str
    look_seconds: float
    """How often it may be polled."""

    def submit(self, task: Task) -> Placed:
        """Hand the task over; a task that the engine already has is found, not started twice.

        Raises EngineBusy, EngineRefused, or Unavailable where the engine does not answer.
        """

    def find(self, task: Task) -> Placed | None:
        """The task where an earlier `submit` was not written down; Unavailable where the engine does not answer."""

    def poll(self, placed: Sequence[Placed]) -> dict[str, EngineState]:
        """State by name. An engine that does not answer is ``unknown``; ``gone`` is said only when it is certain."""

    def cancel(self, placed: Placed, grace: float) -> None:
        """Ask it to stop, and end it by force ``grace`` seconds later; nothing happens to one that has ended.

        Force comes with a later `poll`, where the engine does not see to it by itself.
        """

    def capacity(self) -> Capacity:
        """Room for further tasks; Unavailable where the engine does not answer."""

    def close(self) -> None:
        """Let go of connections; tasks run on."""


def refuse_unknown(executor: str, options: Mapping[str, str], known: Mapping[str, str]) -> None:
    """UsageError for an option that the executor does not have."""
    for name in options:
        if name not in known:
            raise UsageError(
                f"The executor {executor} has no option {name!r}.",
                "It has " + "; ".join(f"{k} ({v})" for k, v in known.items()) + "." if known else "It has none.",
            )
