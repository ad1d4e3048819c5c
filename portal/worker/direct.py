"""A runner that talks to the portal itself: fetches the input, trains, ships, tells the end."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable

from portal.errors import PortalError, StaleLease, Unavailable
from portal.worker.calls import AttemptCalls
from portal.worker.ending import SAVED_CODE, Ending, judge, judge_staging, judge_trainer, tell_end
from portal.worker.heartbeat import Heartbeat, Stopped
from portal.worker.outputs import Uploads
from portal.worker.shipping import Shipper
from portal.worker.spool import DONE, Json
from portal.worker.staging import BadInput, stage
from portal.worker.supervision import BEAT_TICKS, FENCED, NO, OFFLINE, OVERTIME, TICK, Signalled, Supervision

FENCED_CODE, BROKEN_CODE = 76, 70
_log = logging.getLogger(__name__)


def run_direct(training: Supervision, signalled: Signalled) -> int:
    """The attempt from its input to its end; the trainer's exit code, 76 without a lease, 70 where nobody could be told."""
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
            spool.note(DONE, {"state": "stale", "message": heart.reason})
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


def _prepare(
    training: Supervision, heart: Heartbeat, signalled: Signalled, told: Callable[[str], None]
) -> Ending | None:
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
    except (BadInput, OSError, PortalError) as error:
        return judge_staging(error)
    return None


def _train(training: Supervision, heart: Heartbeat, shipper: Shipper) -> Ending:
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
                uploads.go_on(shipper.step)
                next_ship = time.monotonic() + training.lease.ship_seconds
            if tick % BEAT_TICKS == 0:
                training.sign_of_life()
            tick += 1
            time.sleep(TICK)
    finally:
        uploads.end(wait=heart.wish != FENCED)
    wish = OVERTIME if heart.wish == NO and training.overtime else heart.wish
    return judge_trainer(training.spool, training.trainer, code, wish, heart.reason or training.reason)


def _ship(shipper: Shipper, heart: Heartbeat) -> None:
    try:
        shipper.ship_log()
        shipper.ship_metrics()
    except StaleLease as error:
        heart.wish_for(FENCED, error.message)
    except PortalError as error:
        _log.warning("Not shipped now: %s", error)
