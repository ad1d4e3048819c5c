"""What a serving process does by itself: a thread that looks now and then, beside those of other processes.

Several processes over one database share such work by a duty that one of them holds at a time; the others look in now
and then, and take over when it is given back or its time runs out.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass

from portal.catalog.duties import leave_duty, take_duty
from portal.database import DatabaseFault, Engine, open_session
from portal.errors import PortalError


@dataclass(frozen=True)
class Rounds:
    """When a watch looks, and for how long nobody else does."""

    duty: str
    """Names the duty in the database, and the thread."""
    every_s: float
    """Seconds between the end of a look and the next one."""
    hold_s: float
    """Seconds after which a process that was silent no longer holds the duty."""
    first_s: float = 0.0
    """Seconds between the start and the first look."""


class Watch(ABC):
    """A thread that looks as its rounds say, until it is stopped; what goes wrong is in the log, and it looks again."""

    def __init__(self, engine: Engine, rounds: Rounds, on: bool = True) -> None:
        self.on = on
        """Whether there is anything to look for; starting does nothing where there is not."""
        self._engine = engine
        self._rounds = rounds
        self._holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._asked = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = logging.getLogger(type(self).__module__)

    def start(self) -> None:
        """Begin, where there is anything to look for."""
        if self.on:
            self._thread = threading.Thread(target=self._run, name=self._rounds.duty, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End, once what is looked at lets go, and let another process take over at once."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._leave()

    @abstractmethod
    def work_once(self) -> object:
        """One look, by whoever holds the duty; each watch says what it tells."""

    def _run(self) -> None:
        wait = self._rounds.first_s
        while not self._stop.wait(wait):
            wait = self._rounds.every_s
            try:
                self.work_once()
            except (PortalError, DatabaseFault, OSError) as error:
                # The next look may find the database or the store in better health.
                self._log.warning("The watch over %s stopped early: %s", self._rounds.duty, error)

    def _hold(self) -> bool:
        """Whether the duty is this process's now, and for `hold_s` from now on."""
        self._asked = True
        with open_session(self._engine) as session:
            held = take_duty(session, self._rounds.duty, self._holder, self._rounds.hold_s)
            session.commit()
            return held

    def _leave(self) -> None:
        """Give the duty back, where this process asked for it."""
        if not self._asked:
            return
        try:
            with open_session(self._engine) as session:
                leave_duty(session, self._rounds.duty, self._holder)
                session.commit()
            self._asked = False
        except DatabaseFault as error:
            self._log.warning("The duty of %s could not be given back: %s", self._rounds.duty, error)
