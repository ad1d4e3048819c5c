"""One attempt in the agent's hands, from its lease (or from where an earlier agent left it) until the portal knows its end."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from portal.errors import PortalError, StaleLease, Unavailable
from portal.worker.calls import AttemptCalls
from portal.worker.ending import CANCELLED, FAILED, PREEMPTED, Ending, end_of_trainer, judge_staging, tell_end
from portal.worker.engine import Engine
from portal.worker.executors import EngineBusy, EngineRefused, EngineState, Placed, Task
from portal.worker.executors.launch import was_started
from portal.worker.executors.placed import GRACE
from portal.worker.heartbeat import Heartbeat, Stopped
from portal.worker.outputs import Uploads
from portal.worker.shipping import Shipper
from portal.worker.spool import CONTROL, DONE, RUNNER, SUBMITTED, Json, Lease, Spool
from portal.worker.staging import BadInput, stage
from portal.worker.supervision import FENCED, GRACEFUL, KILL, NO, OFFLINE, OVERTIME

TICK = 0.4
SUBMISSIONS = 3
"""How often a task is handed over that its engine lost before it began."""
SILENCE = 20.0
"""Seconds without a sign of life after which a runner that its engine does not know is taken for dead."""
LOST = "lost"
_log = logging.getLogger(__name__)


class Keeper:
    """A thread that keeps one attempt; `active` until there is nothing left to do for it."""

    def __init__(self, spool: Spool, lease: Lease, engine: Engine) -> None:
        self.lease = lease
        self.submitted = False
        self.outcome = ""
        """How it ended, once the portal knows."""
        self._spool = spool
        self._engine = engine
        self._relay = lease.staging == "relay"
        self._calls = AttemptCalls(lease)
        self._shipper = Shipper(spool, self._calls)
        self._phase = "preparing"
        self._message = ""
        self._placed: Placed | None = None
        self._save = threading.Event()
        self._beats: tuple[int, float] = (-1, time.monotonic())
        self._heart: Heartbeat | None = None
        self._thread = threading.Thread(target=self._run, name=lease.name, daemon=True)

    @property
    def folder(self) -> Path:
        """Of the attempt."""
        return self._spool.folder

    @property
    def active(self) -> bool:
        """True while it runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def save(self) -> None:
        """Let the trainer save its state and stop: this worker goes away."""
        self._save.set()

    def _run(self) -> None:
        _log.info("%s: begins (%s)", self.lease.name, self.lease.staging)
        try:
            self._keep()
        except Unavailable as error:
            # Everything stays in the spool; an agent that is started later tells it.
            _log.error("%s: left as it is: %s", self.lease.name, error)
        except Exception:
            _log.exception("%s: left as it is", self.lease.name)
        finally:
            if self._heart is not None:
                self._heart.end()
            self._calls.close()

    def _keep(self) -> None:
        if self._spool.read(DONE) is None:
            if self._relay or self._spool.read(RUNNER) is None:
                self._begin_heartbeats()
            ending = self._stage() if self._relay else None
            for _ in range(SUBMISSIONS):
                ending = ending or self._place()
                state = self._watch(self._placed) if ending is None and self._placed is not None else None
                if ending or self._spool.read(DONE) is not None or was_started(self._spool.folder):
                    break
                if state is not None and state.kind == "cancelled":
                    ending = Ending(PREEMPTED, None, f"The engine cancelled it before it began. {state.detail}")
                    break
                self._spool.path(SUBMITTED).unlink(missing_ok=True)
                _log.warning("%s: lost by its engine before it began", self.lease.name)
            self._settle(ending, state)
        self._clean_up()

    def _stage(self) -> Ending | None:
        """Relay: lay out the input before the engine is asked for anything."""
        try:
            stage(self._spool, self.lease, self._check, self._say)
        except Stopped as stopped:
            return self._stopped_early(stopped.wish)
        except (BadInput, OSError, PortalError) as error:
            return judge_staging(error)
        return None

    def _place(self) -> Ending | None:
        """Hand it to the engine, or find it there; the ending where that cannot be done."""
        self._phase = "engine_pending"
        task = self._task()
        while True:
            try:
                self._placed = self._engine.submit(task)
            except EngineBusy as error:
                self._say(error.message)
            except EngineRefused as error:
                return Ending(FAILED, None, str(error), retryable=True)
            except Unavailable as error:
                self._say(error.message)
            else:
                self._spool.write(SUBMITTED, {"engine": self._engine.name, "id": self._placed.id})
                self.submitted = True
                if self._heart is not None:
                    self._heart.hurry()
                return None
            if self._heart is not None and self._heart.wish != NO:
                return self._stopped_early(self._heart.wish)
            if self._save.is_set():
                return self._stopped_early(OFFLINE)
            time.sleep(TICK)

    def _watch(self, placed: Placed) -> EngineState:
        """Until the engine has ended it, or the portal knows its end; ships meanwhile where the runner cannot."""
        uploads = Uploads(self._spool, self.lease) if self._relay else None
        next_ship, passed_on = 0.0, NO
        try:
            while True:
                state = self._engine.state(placed)
                if self._spool.read(DONE) is not None or (state.ended and not self._lives(state)):
                    return state
                self._follow_runner(state)
                if (wish := self._wish()) != passed_on:
                    self._stop(placed, wish, state)
                    passed_on = wish
                if uploads is not None and time.monotonic() >= next_ship:
                    self._ship()
                    uploads.go_on(self._shipper.step)
                    next_ship = time.monotonic() + self.lease.ship_seconds
                time.sleep(TICK)
        finally:
            if uploads is not None:
                uploads.end(wait=self._wish() != FENCED)

    def _follow_runner(self, state: EngineState) -> None:
        """Take the phase from the runner; with direct staging it has the heartbeats from its first sign of life on."""
        found = self._spool.read(RUNNER)
        if found is None:
            return
        if not self._relay and self._heart is not None and state.kind == "running":
            self._heart.end()
            self._heart = None
        phase = str(found.get("phase"))
        if phase == "running" != self._phase:
            self._phase = phase
            if self._heart is not None:
                self._heart.hurry()

    def _lives(self, state: EngineState) -> bool:
        """Whether a runner that its engine has lost shows signs of life: a forgotten job may well be running."""
        if state.kind not in ("gone", "node_lost") or self._engine.name == "process":
            return False
        found = self._spool.read(RUNNER) or {}
        beat, now = int(found.get("beat", -1)), time.monotonic()
        if beat != self._beats[0]:
            self._beats = (beat, now)
        return found.get("ended") is None and beat >= 0 and now - self._beats[1] < SILENCE

    def _wish(self) -> str:
        if self._heart is not None and self._heart.wish != NO:
            return self._heart.wish
        return OFFLINE if self._save.is_set() else NO

    def _stop(self, placed: Placed, wish: str, state: EngineState) -> None:
        """Pass a wish on: to the runner by a file, and to the engine."""
        force = wish in (KILL, FENCED)
        self._spool.note(CONTROL, {"stop": KILL if force else GRACEFUL})
        if force or state.kind == "pending" or not self._relay:
            self._engine.cancel(placed, 0 if force else GRACE)

    def _settle(self, ending: Ending | None, state: EngineState | None) -> None:
        """Tell the portal the end, unless the runner has done so or the attempt has no right to."""
        if self._placed is not None:
            self._engine.cancel(self._placed, 0)  # whatever is left of it
        if self._spool.read(DONE) is not None:
            return
        wish = self._wish()
        if wish == FENCED:
            self._spool.note(DONE, {"state": "stale", "message": self._heart.reason if self._heart else ""})
            return
        if ending is None:
            ending = self._ending(wish, state)
        self._phase = "publishing"
        if self._heart is None:
            self._begin_heartbeats()
        else:
            self._heart.hurry()
        tell_end(self._spool, self.lease, self._calls, ending, self.lease.offline_grace)

    def _ending(self, wish: str, state: EngineState | None) -> Ending:
        """From what the trainer left; where it left nothing, from what its engine says."""
        detail = "" if state is None else state.detail
        reason = f"Its engine ended it. {detail}".strip() if state is not None and state.kind == "cancelled" else ""
        if overtime := (self._spool.read(RUNNER) or {}).get("reason"):
            wish, reason = OVERTIME if wish == NO else wish, str(overtime)
        found = end_of_trainer(self._spool, wish, reason)
        killed = found is None or (found.outcome == FAILED and (found.exit_code or 0) > 128)
        if not killed and found is not None:
            return found
        if wish in (GRACEFUL, KILL):
            return Ending(CANCELLED, None, "Ended before it had saved.")
        if state is not None and state.kind == "cancelled":
            return Ending(PREEMPTED, None, reason)
        if state is not None and state.kind in ("gone", "node_lost"):
            return Ending(LOST, None, f"Its engine lost it: {detail}")
        if found is not None:
            return found
        code = None if state is None else state.code
        return Ending(FAILED, code, f"The runner ended with exit code {code}: {self._runner_says()}", retryable=True)

    def _runner_says(self) -> str:
        for name in ("runner.log", "engine.log"):
            with suppress(OSError):
                lines = self._spool.path(name).read_text("utf-8", "replace")[-4000:].strip().splitlines()
                if lines:
                    return lines[-1][:500]
        return "it said nothing"

    def _stopped_early(self, wish: str) -> Ending:
        if wish in (GRACEFUL, KILL):
            return Ending(CANCELLED, None, "Cancelled before training began.")
        return Ending(PREEMPTED, None, "The worker stopped before training began.")

    def _clean_up(self) -> None:
        """Remove the spool once nothing runs in it any more."""
        done = self._spool.read(DONE) or {}
        self.outcome = str(done.get("outcome", ""))
        if self._placed is not None:
            give_up = time.monotonic() + GRACE
            while not self._engine.state(self._placed).ended and time.monotonic() < give_up:
                time.sleep(TICK)
            self._engine.cancel(self._placed, 0)
            self._engine.forget(self._placed)
        _log.info("%s: %s %s", self.lease.name, done.get("state", "ended"), done.get("message", ""))
        shutil.rmtree(self._spool.folder, ignore_errors=True)

    def _begin_heartbeats(self) -> None:
        self._heart = Heartbeat(self._calls, self.lease.heartbeat_seconds, self.lease.offline_grace, self._status)
        self._heart.start()

    def _status(self) -> Json:
        said: Json = {"phase": self._phase, "step": self._shipper.step}
        if self._placed is not None:
            said["ext_ref"] = f"{self._engine.name}:{self._placed.id}"
        message, self._message = self._message, ""
        return {**said, "message": message} if message else said

    def _say(self, message: str) -> None:
        if message != self._message:
            _log.info("%s: %s", self.lease.name, message)
        self._message = message

    def _check(self) -> None:
        if self._heart is not None:
            self._heart.check()
        if self._save.is_set():
            raise Stopped(OFFLINE)

    def _ship(self) -> None:
        try:
            self._shipper.ship_log()
            self._shipper.ship_metrics()
        except StaleLease as error:
            if self._heart is not None:
                self._heart.wish_for(FENCED, error.message)
        except PortalError as error:
            _log.warning("%s: not shipped now: %s", self.lease.name, error)

    def _task(self) -> Task:
        resources = self.lease.spec.get("resources", {})
        threads = self.lease.spec.get("training", {}).get("numerics", {}).get("threads")
        return Task(
            name=self.lease.name,
            spool=self._spool.folder,
            command=[sys.executable, "-m", "portal.worker.runner", str(self._spool.folder)],
            gpus=self.lease.gpus,
            cpus=threads if isinstance(threads, int) and threads > 0 else 1,
            memory=resources.get("memory") or None,
            seconds=resources.get("seconds") or None,
        )
