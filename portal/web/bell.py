"""Workers that wait for work: one look at the queue for all of them, and only as many woken as there are jobs.

A job that is submitted through this process rings at once; one that came through another process, or whose pause is
over, is found by a look every half second while anybody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from portal.catalog.jobs.labels import answered_by
from portal.catalog.jobs.queue import Offer, Wanted, list_wanted
from portal.catalog.jobs.rules import JobRules
from portal.database import DatabaseFault, Engine, open_session
from portal.web.stopping import is_stopping

LOOK_S = 0.5


@dataclass(eq=False)
class _Waiting:
    """One worker in the queue before the queue."""

    free_gpus: int
    needs: frozenset[str]
    woken: asyncio.Future[bool]

    def takes(self, wanted: Wanted) -> bool:
        return wanted.gpus <= self.free_gpus and wanted.needs in self.needs


class Bell:
    """Wakes those who wait, first come first served."""

    def __init__(self, engine: Engine, rules: JobRules) -> None:
        self._engine = engine
        self._rules = rules
        self._waiting: list[_Waiting] = []
        self._looker: asyncio.Task[None] | None = None
        self._rung: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def wait(self, offer: Offer, seconds: float) -> bool:
        """Until there may be a job for this worker (True), or the time is over (False)."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._rung, self._looker, self._waiting = loop, asyncio.Event(), None, []
        mine = _Waiting(offer.free_gpus, frozenset(answered_by(offer.labels)), loop.create_future())
        self._waiting.append(mine)
        if self._looker is None or self._looker.done():
            # It looks for everybody who waits, so not with the eyes of whoever came first.
            self._looker = asyncio.create_task(self._look_for_all(), context=Context())
        try:
            return await asyncio.wait_for(mine.woken, seconds)
        except TimeoutError:
            return False
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)

    def ring(self) -> None:
        """There is a new job; may be called from any thread."""
        loop, rung = self._loop, self._rung
        if loop is not None and rung is not None and not loop.is_closed():
            loop.call_soon_threadsafe(rung.set)

    async def _look_for_all(self) -> None:
        rung = self._rung
        assert rung is not None  # noqa: S101 - made before the first look
        while self._waiting:
            with suppress(TimeoutError):
                await asyncio.wait_for(rung.wait(), LOOK_S)
            rung.clear()
            if is_stopping():
                for waiting in self._waiting:
                    _wake(waiting, False)
                return
            try:
                wanted = await run_in_threadpool(self._list_wanted)
            except DatabaseFault:
                # Those who wait try again when their time is over; the next look may find it in better health.
                continue
            self._share_out(wanted)

    def _share_out(self, wanted: Sequence[Wanted]) -> None:
        for kind in wanted:
            takers = [w for w in self._waiting if not w.woken.done() and w.takes(kind)]
            for waiting in takers[: kind.jobs]:
                _wake(waiting, True)

    def _list_wanted(self) -> list[Wanted]:
        with open_session(self._engine) as session:
            return list_wanted(session, self._rules)


def _wake(waiting: _Waiting, found: bool) -> None:
    if not waiting.woken.done():
        waiting.woken.set_result(found)
