"""``python -m portal.worker.runner SPOOL``: the trainer's parent. Heartbeats, shipping, stopping; imports no torch.

With ``direct`` staging it fetches the input and talks to the portal itself, so the agent may die meanwhile. With
``relay`` it runs where no portal can be reached: it only starts and stops the trainer, and the agent does the rest by
the files of the spool. A runner that was killed and is started again finds its trainer and goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from portal.errors import PortalError, StaleLease, TooLarge, Unavailable
from portal.worker.calls import AttemptCalls
from portal.worker.ending import BAD_INPUT_CODE, FAILED, PREEMPTED, SAVED_CODE, Ending, judge, tell_end
from portal.worker.heartbeat import FENCED, GRACEFUL, KILL, NO, OFFLINE, Heartbeat, Stopped
from portal.worker.outputs import Uploads
from portal.worker.shipping import Shipper
from portal.worker.spool import CONTROL, DONE, RUNNER, Json, Lease, Spool
from portal.worker.staging import BadInput, explain_full_disk, stage
from portal.worker.training import TrainerProcess

TICK = 0.25
"""Seconds between looks at the trainer."""
BEAT_TICKS = 8
"""Looks between two signs of life in the spool."""
FENCED_CODE, BROKEN_CODE = 76, 70
GRACE = 600.0
"""Seconds for saving after a graceful wish; the portal wishes for a kill earlier unless it is away."""
_log = logging.getLogger("portal.worker.runner")


class Signalled:
    """What the engine wants: SIGTERM means save and stop, soon."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signal wants it
        self.asked = True


class Training:
    """The trainer from its start to its end, with whoever wishes it to stop."""

    def __init__(self, spool: Spool, lease: Lease, signalled: Signalled) -> None:
        self.spool = spool
        self.lease = lease
        self.trainer = TrainerProcess(spool)
        self.phase = "preparing"
        self.beat = 0
        self._signalled = signalled
        self._asked_at: float | None = None
        self._killed = False

    def watch(self, wish: str) -> int | None:
        """One look: pass wishes on to the trainer; its exit code once it has ended."""
        if wish in (KILL, FENCED):
            self._kill()
        elif wish in (GRACEFUL, OFFLINE) or self._signalled.asked:
            if self._asked_at is None:
                self._asked_at = time.monotonic()
                self.trainer.terminate()
            elif time.monotonic() - self._asked_at > GRACE:
                self._kill()
        return self.trainer.poll()

    def sign_of_life(self, ended: Json | None = None) -> None:
        """Let the agent see that the runner lives: a number that rises, no time of any clock."""
        self.beat += 1
        with suppress(OSError):  # a full disk must not end the training
            self.spool.write(RUNNER, {"beat": self.beat, "phase": self.phase, "pid": os.getpid(), "ended": ended})

    def _kill(self) -> None:
        if not self._killed:
            self._killed = True
            self.trainer.kill()


def main(arguments: list[str]) -> int:
    """Run the attempt in a spool; the trainer's exit code, 76 where the attempt lost its lease, 70 for a fault of ours."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signalled = Signalled()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signalled)
    spool = Spool(Path(arguments[0]).resolve())
    lease = spool.lease()
    training = Training(spool, lease, signalled)
    training.sign_of_life()
    code = _relayed(training) if lease.staging == "relay" else _direct(training, signalled)
    training.sign_of_life({"code": code})
    return code if 0 <= code <= 128 else 1


def _relayed(training: Training) -> int:
    """Start the trainer on what the agent laid out, and stop it when a file says so."""
    if not training.trainer.begun:
        training.trainer.start(training.lease)
    training.phase = "running"
    tick = 0
    while True:
        wish = str((training.spool.read(CONTROL) or {}).get("stop", NO))
        code = training.watch(wish)
        if code is not None:
            return code
        if tick % BEAT_TICKS == 0:
            training.sign_of_life()
        tick += 1
        time.sleep(TICK)


def _direct(training: Training, signalled: Signalled) -> int:
    spool, lease = training.spool, training.lease
    calls = AttemptCalls(lease)
    shipper = Shipper(spool, calls)
    host = socket.gethostname()
    waiting = {"message": ""}

    def status() -> Json:
        said: Json = {"phase": training.phase, "step": shipper.step, "host": host}
        if message := waiting.pop("message", ""):
            said["message"] = message
        return said

    heart = Heartbeat(calls, lease.heartbeat_seconds, lease.offline_grace, status)
    heart.start()
    try:
        ending = _prepare(training, heart, signalled, lambda message: waiting.__setitem__("message", message))
        if ending is None:
            ending = _train(training, heart, shipper)
        if heart.wish == FENCED:
            spool.write(DONE, {"state": "stale", "message": heart.reason})
            return FENCED_CODE
        training.phase = "publishing"
        heart.hurry()
        training.sign_of_life()
        told = tell_end(spool, lease, calls, ending, lease.offline_grace)
        return (ending.exit_code if ending.exit_code is not None else 1) if told else FENCED_CODE
    except Unavailable as error:
        _log.error("Given up telling the end: %s", error)
        return BROKEN_CODE
    finally:
        heart.end()
        calls.close()


def _prepare(training: Training, heart: Heartbeat, signalled: Signalled, told: Callable[[str], None]) -> Ending | None:
    """Lay out the input and start the trainer; the ending where that cannot be done."""
    if training.trainer.begun:
        return None

    def check() -> None:
        if signalled.asked:
            raise Stopped(OFFLINE)
        heart.check()

    try:
        stage(training.spool, training.lease, check, told)
        training.trainer.start(training.lease)
    except Stopped as stopped:
        return judge(SAVED_CODE, stopped.wish, "Stopped before training began.", "")
    except BadInput as error:
        return Ending(FAILED, BAD_INPUT_CODE, str(error))
    except (TooLarge, OSError) as error:
        return Ending(FAILED, 1, explain_full_disk(error), retryable=True)
    except PortalError as error:
        return Ending(FAILED, 1, f"The input could not be fetched: {error}", retryable=True)
    return None


def _train(training: Training, heart: Heartbeat, shipper: Shipper) -> Ending:
    """Until the trainer ends; ships meanwhile. Checkpoints go in a thread of their own: they may be large."""
    training.phase = "running"
    heart.hurry()
    uploads = Uploads(training.spool, training.lease)
    next_ship, tick = 0.0, 0
    try:
        while True:
            code = training.watch(heart.wish)
            if code is not None:
                break
            if time.monotonic() >= next_ship:
                _ship(shipper, heart)
                uploads.go_on()
                next_ship = time.monotonic() + training.lease.ship_seconds
            if tick % BEAT_TICKS == 0:
                training.sign_of_life()
            tick += 1
            time.sleep(TICK)
    finally:
        uploads.end(wait=heart.wish != FENCED)
    if code == SAVED_CODE and heart.wish not in (GRACEFUL, KILL):
        return Ending(PREEMPTED, code, heart.reason or "Stopped from outside; its state was saved.")
    return judge(code, heart.wish, heart.reason, training.trainer.last_words())


def _ship(shipper: Shipper, heart: Heartbeat) -> None:
    try:
        shipper.ship_log()
        shipper.ship_metrics()
    except StaleLease as error:
        heart.wish_for(FENCED, error.message)
    except PortalError as error:
        _log.warning("Not shipped now: %s", error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
