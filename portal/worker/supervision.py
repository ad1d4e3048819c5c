"""The trainer under a runner's eye: wishes to stop are passed on, signs of life are left in the spool."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from types import FrameType

from portal.worker.spool import RUNNER, Json, Lease, Spool
from portal.worker.training import TrainerProcess

NO, GRACEFUL, KILL, FENCED, OFFLINE, OVERTIME = "no", "graceful", "kill", "fenced", "offline", "overtime"
"""Wishes to stop: none; save first; at once; at once, without any right to go on; save first, nobody answers; save
first, the attempt's time is over."""
TICK = 0.25
"""Seconds between looks at the trainer."""
BEAT_TICKS = 8
"""Looks between two signs of life in the spool."""
GRACE = 600.0
"""Seconds for saving after a graceful wish; the portal wishes for a kill earlier unless it is away."""


class Signalled:
    """What the engine wants: SIGTERM means save and stop, soon."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal wants it
        self.asked = True


class Supervision:
    """The trainer from its start to its end, with whoever wishes it to stop."""

    def __init__(self, spool: Spool, lease: Lease, signalled: Signalled) -> None:
        self.spool = spool
        self.lease = lease
        self.trainer = TrainerProcess(spool)
        self.phase = "preparing"
        self.beat = 0
        self._limit = float(lease.spec.get("resources", {}).get("seconds") or 0)
        # Of an earlier runner: what it trained counts, and no clock that somebody sets does.
        self._before = float((spool.read(RUNNER) or {}).get("seconds") or 0)
        self._begun: float | None = None
        self._signalled = signalled
        self._asked_at: float | None = None
        self._killed = False

    @property
    def seconds(self) -> float:
        """How long the trainer was watched, by this runner and those before it."""
        return self._before + (time.monotonic() - self._begun if self._begun is not None else 0.0)

    @property
    def overtime(self) -> bool:
        """True once the attempt has had the time that the job gives it."""
        return bool(self._limit) and self.seconds > self._limit

    @property
    def reason(self) -> str:
        """Why it stops by itself, in a sentence; empty where it does not."""
        return f"Its time of {self._limit:,.0f} seconds was over." if self.overtime else ""

    def watch(self, wish: str) -> int | None:
        """One look: pass wishes on to the trainer; its exit code once it has ended."""
        if self._begun is None:
            self._begun = time.monotonic()
        if wish in (KILL, FENCED):
            self._kill()
        elif wish in (GRACEFUL, OFFLINE) or self._signalled.asked or self.overtime:
            if self._asked_at is None:
                self._asked_at = time.monotonic()
                self.trainer.terminate()
            elif time.monotonic() - self._asked_at > GRACE:
                self._kill()
        return self.trainer.poll()

    def sign_of_life(self, ended: Json | None = None) -> None:
        """Let the agent see that the runner lives: a number that rises, no time of any clock."""
        self.beat += 1
        told = {"beat": self.beat, "phase": self.phase, "pid": os.getpid(), "ended": ended}
        with suppress(OSError):  # a full disk must not end the training
            self.spool.write(RUNNER, {**told, "seconds": round(self.seconds, 1), "reason": self.reason})

    def _kill(self) -> None:
        if not self._killed:
            self._killed = True
            self.trainer.kill()
