"""How an attempt ended, and telling it: the last of log, numbers and checkpoints, then one completion."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from portal.errors import Conflict, PortalError, StaleLease, TooLarge, Unavailable
from portal.worker.calls import AttemptCalls
from portal.worker.outputs import Checkpoints
from portal.worker.shipping import Shipper
from portal.worker.spool import DONE, Json, Lease, Spool
from portal.worker.staging import BadInput
from portal.worker.supervision import GRACEFUL, KILL, NO, OVERTIME
from portal.worker.training import TrainerProcess, read_json

SUCCEEDED, FAILED, PREEMPTED, CANCELLED = "succeeded", "failed", "preempted", "cancelled"
DONE_CODE, SAVED_CODE, BAD_INPUT_CODE, TERMINATED_CODE = 0, 75, 65, 143
UNFIT_CODE, DISK_FULL_CODE = 69, 73
"""Faults of the machine: on another worker the same job may do well."""
NO_ROOM = 1 << 20
"""Bytes free on a disk that is full in all but name: what failed there failed for want of room."""
LONGEST_WAIT = 5.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """What became of an attempt, before the portal has looked at it."""

    outcome: str
    exit_code: int | None
    message: str
    retryable: bool = False


def judge(code: int, wish: str, reason: str, last_words: str) -> Ending:
    """The ending that a trainer's exit code means, given what it was asked for."""
    if code == DONE_CODE:
        return Ending(SUCCEEDED, code, "")
    asked = wish in (GRACEFUL, KILL)
    if code == SAVED_CODE:
        return Ending(CANCELLED if asked else PREEMPTED, code, reason or "Saved and stopped on request.")
    if asked:
        return Ending(CANCELLED, code, "Ended before it had saved.")
    if wish == OVERTIME and code > 128:
        return Ending(PREEMPTED, code, f"{reason} It had not saved in time and was ended.")
    if code == TERMINATED_CODE:  # told to stop while it was still starting
        return Ending(PREEMPTED, code, reason or "Stopped from outside before it had anything to save.")
    if code == BAD_INPUT_CODE:
        return Ending(FAILED, code, last_words or "The trainer refused its input.")
    if code == DISK_FULL_CODE:
        return Ending(FAILED, code, f"The worker's disk is full. {last_words}".rstrip(), retryable=True)
    if code == UNFIT_CODE:
        return Ending(FAILED, code, f"The worker cannot train: {last_words}", retryable=True)
    if code > 128:
        # Out of memory, an operator, a node that goes down: the next attempt may fare better.
        memory = " Memory may have run out." if code == 137 else ""
        return Ending(FAILED, code, f"The trainer was ended by signal {code - 128}.{memory}", retryable=True)
    return Ending(FAILED, code, f"The trainer ended with exit code {code}: {last_words}".rstrip(": "))


def judge_staging(error: BadInput | OSError | PortalError) -> Ending:
    """The ending of an attempt whose input could not be laid out."""
    if isinstance(error, BadInput):
        return Ending(FAILED, BAD_INPUT_CODE, str(error))
    if isinstance(error, TooLarge) or (isinstance(error, OSError) and error.errno in _FULL):
        return Ending(FAILED, DISK_FULL_CODE, f"The worker's disk cannot hold this job: {error}", retryable=True)
    if isinstance(error, OSError):
        return Ending(FAILED, 1, f"The worker cannot write its folder: {error}", retryable=True)
    return Ending(FAILED, 1, f"The input could not be fetched: {error}", retryable=True)


def tell_end(
    spool: Spool,
    lease: Lease,
    calls: AttemptCalls,
    ending: Ending,
    offline_grace: float,
    renew: Callable[[], None] = lambda: None,
) -> bool:
    """Hand in what is left and tell the portal the end; False where the attempt has no right to tell it any more.

    Keeps trying for ``offline_grace`` seconds while the portal does not answer (then Unavailable); ``renew`` is
    called in between. Told twice is told once.
    """
    shipper, checkpoints = Shipper(spool, calls), Checkpoints(spool, lease, calls)
    give_up = time.monotonic() + offline_grace
    wait = 0.5
    said: Json = {}
    while True:
        try:
            _ship_all(shipper, checkpoints, ending)
            # Worded once: told twice in other words it would be another end.
            said = said or _completion(spool, lease, shipper, checkpoints, ending)
            state = calls.complete(said)
        except StaleLease as error:
            _log.info("Attempt %s ended elsewhere: %s", lease.name, error.message)
            spool.note(DONE, {"state": "stale", "message": error.message})
            return False
        except Conflict as error:
            _log.warning("Attempt %s had told another end before: %s", lease.name, error.message)
            said, state = {"outcome": ending.outcome, "message": error.message}, "told before"
        except Unavailable as error:
            if time.monotonic() > give_up:
                raise
            _log.warning("The end of attempt %s waits: %s", lease.name, error.message)
            renew()
            time.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)
            continue
        spool.note(DONE, {"state": state, "outcome": said["outcome"], "message": said["message"]}, durable=True)
        return True


def end_of_trainer(spool: Spool, wish: str = NO, reason: str = "") -> Ending | None:
    """The ending by the exit code the trainer left; None where it left none."""
    trainer = TrainerProcess(spool)
    code = trainer.poll() if trainer.begun else None
    return None if code is None else judge_trainer(spool, trainer, code, wish, reason)


def judge_trainer(spool: Spool, trainer: TrainerProcess, code: int, wish: str, reason: str) -> Ending:
    """`judge`, for a trainer whose own words are at hand: told to stop a second time, it may be ended after its work."""
    if code == TERMINATED_CODE:
        wrote = read_json(spool.output / "result.json").get("outcome")
        code = {SUCCEEDED: DONE_CODE, PREEMPTED: SAVED_CODE}.get(str(wrote), code)
    elif code not in (DONE_CODE, SAVED_CODE, BAD_INPUT_CODE, UNFIT_CODE) and _is_full(spool):
        code = DISK_FULL_CODE
    return judge(code, wish, reason, trainer.last_words())


def _is_full(spool: Spool) -> bool:
    """Whether nothing can be written there: then not even an exit code could be."""
    try:
        return shutil.disk_usage(spool.folder).free < NO_ROOM
    except OSError:
        return False


def _ship_all(shipper: Shipper, checkpoints: Checkpoints, ending: Ending) -> None:
    shipper.ship_log()
    try:
        shipper.ship_metrics()
        checkpoints.hand_in(finished=ending.outcome == SUCCEEDED)
    except (StaleLease, Unavailable):
        raise
    except PortalError as error:
        # What the portal will never take (a number it cannot read) must not hide how the attempt ended.
        _log.warning("Something was refused and left out: %s", error)


def _completion(spool: Spool, lease: Lease, shipper: Shipper, checkpoints: Checkpoints, ending: Ending) -> Json:
    refusal = checkpoints.refusal() if ending.outcome == SUCCEEDED else None
    outcome = FAILED if refusal else ending.outcome
    return {
        "outcome": outcome,
        "exit_code": ending.exit_code,
        "retryable": ending.retryable,
        "message": (f"The portal refused the final checkpoint: {refusal}" if refusal else ending.message)[:4000],
        "environment": {
            **read_json(spool.output / "environment.json"),
            **({"result": result} if (result := read_json(spool.output / "result.json")) else {}),
            "shipping": {"staging": lease.staging, "cpu_seconds": round(time.process_time(), 2)},
        },
        "log_sha256": shipper.log_digest(),
    }
