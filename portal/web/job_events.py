"""What a job tells, live (Server-Sent Events): numbered by the job itself, so that nothing is missed or told twice.

One look at the database serves everybody who watches through this process, and asks only how far each watched job has
come; what is new is then read and written out once for all who stand at the same number and may see the same. Nobody who
waits holds a thread or a connection of the database. Who may see the job is asked with every reading: a stream ends for
whoever may no longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context
from dataclasses import dataclass

import orjson
from starlette.concurrency import run_in_threadpool

from portal.catalog.jobs.listing import get_state
from portal.catalog.jobs.rules import ENDED
from portal.catalog.jobs.told import Told, list_told, read_told
from portal.catalog.sight import Sight, current_sight, looking_as
from portal.database import DatabaseFault, Engine, open_session
from portal.errors import JobNotFound
from portal.web.asking import Eyes
from portal.web.stopping import is_stopping

LOOK_S = 0.5
ALIVE_S = 15.0
"""Seconds of silence after which a comment is sent, so that proxies and clients see that the line is up."""


@dataclass(frozen=True)
class Heard:
    """What a job told after a number."""

    events: bytes
    """As event-stream."""
    upto: int
    """The number it covers."""
    more: bool
    """Whether there is more already."""
    ended: str
    """The state of a job that has ended and told all of it; else empty."""


class Watch:
    """How far the watched jobs have told, asked for all of them at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._watched: dict[int, list[asyncio.Future[None]]] = {}
        self._after: dict[int, int] = {}
        self._reads: dict[tuple[int, int, Sight], asyncio.Task[Heard]] = {}
        self._looker: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def wait(self, job: int, after: int, seconds: float) -> bool:
        """Until the job may have told more than ``after`` (True), or the time is over (False)."""
        loop = self._here()
        woken: asyncio.Future[None] = loop.create_future()
        self._watched.setdefault(job, []).append(woken)
        # Somebody may be behind the others: the look is compared with the one who has heard least.
        self._after[job] = min(after, self._after.get(job, after))
        if self._looker is None or self._looker.done():
            # It looks for everybody who watches, so not with the eyes of whoever came first.
            self._looker = asyncio.create_task(self._look(), context=Context())
        try:
            await asyncio.wait_for(woken, seconds)
        except TimeoutError:
            return False
        finally:
            waiting = self._watched.get(job, [])
            if woken in waiting:
                waiting.remove(woken)
            if not waiting:
                self._watched.pop(job, None)
                self._after.pop(job, None)
        return True

    async def read(self, job: int, after: int) -> Heard:
        """What was told after this number; JobNotFound where the current sight does not see the job (any more).

        Those who see the same and ask for the same at the same time share one look.
        """
        self._here()
        place = (job, after, current_sight())
        reading = self._reads.get(place)
        if reading is None:
            # Nothing of whoever came first but their sight, which all of them share.
            reading = asyncio.create_task(run_in_threadpool(self._read, *place), context=Context())
            self._reads[place] = reading
            reading.add_done_callback(lambda _: self._reads.pop(place, None))
        # One of them who leaves must not end it for the others.
        return await asyncio.shield(reading)

    def _here(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._watched, self._after, self._reads, self._looker = loop, {}, {}, {}, None
        return loop

    def _read(self, job: int, after: int, sight: Sight) -> Heard:
        with looking_as(sight), open_session(self._engine) as session:
            found, upto, more = read_told(session, job, after)
            state, number = get_state(session, job)
        over = state in ENDED and not more and number <= upto
        return Heard(b"".join(map(written, found)), upto, more or number > upto, state if over else "")

    async def _look(self) -> None:
        while self._watched:
            await asyncio.sleep(LOOK_S)
            if is_stopping():
                told = dict.fromkeys(self._watched, 2**62)
            else:
                try:
                    told = await run_in_threadpool(self._ask, list(self._watched))
                except DatabaseFault:
                    continue
            for job, number in told.items():
                if number > self._after.get(job, number):
                    for woken in self._watched.pop(job, []):
                        if not woken.done():
                            woken.set_result(None)
                    self._after.pop(job, None)

    def _ask(self, jobs: list[int]) -> dict[int, int]:
        with open_session(self._engine) as session:
            return list_told(session, jobs)


async def stream_told(watch: Watch, job: int, after: int, eyes: Eyes) -> AsyncIterator[bytes]:
    """Everything after this number as event-stream; ends with ``end`` once the job has ended and all was told.

    Without it where whoever asks may not see the job any more: whoever asks again is told so.
    """
    yield b"retry: 2000\n\n"
    while True:
        heard = await _seen(watch, job, after, eyes)
        if heard is None:
            return
        after = heard.upto
        if heard.events:
            yield heard.events
        if heard.more:
            continue
        if heard.ended:
            yield f"id: {after}\nevent: end\ndata: {orjson.dumps({'state': heard.ended}).decode()}\n\n".encode()
            return
        if not await watch.wait(job, after, ALIVE_S):
            yield b": still here\n\n"
        if is_stopping():
            return


async def _seen(watch: Watch, job: int, after: int, eyes: Eyes) -> Heard | None:
    sight = await eyes.sight()
    if sight is None:
        return None
    with looking_as(sight):
        try:
            return await watch.read(job, after)
        except JobNotFound:
            return None


def written(told: Told) -> bytes:
    """One event; JSON has no line breaks, so log text needs no further care."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (told.number, told.kind.encode(), orjson.dumps(told.data))
