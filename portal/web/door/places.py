"""How many requests are worked on at once, and how many wait for that: beyond, they are told to come again at once.

Work that nobody waits for any more is the dearest there is, so the queue is short and those in it wait seconds at most.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portal.errors import Overloaded
from portal.web.door.kinds import COSTLY, kind_of
from portal.web.door.refusing import refuse

PATIENCE_S = 5.0
_WAITS_ITSELF = re.compile(
    r"^/(static/|healthz$|readyz$|metrics$)|^/api/v1/(blobs/|releases(/|$)|workers/[^/]+/lease$|jobs/[^/]+/(events|log)$)"
)
"""What holds no thread while it waits, or has its own number of places."""


class Places:
    """So many at a time; first come, first served."""

    def __init__(self, most: int, queue: int, patience: float = PATIENCE_S) -> None:
        self.most = most
        self.queue = queue
        self.running = 0
        self._patience = patience
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    async def take(self) -> None:
        """A place, after waiting for one if need be. Overloaded where too many wait already, or it took too long."""
        if self.running < self.most and not self._waiting:
            self.running += 1
            return
        if len(self._waiting) >= self.queue:
            raise _overloaded()
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            async with asyncio.timeout(self._patience):
                await mine
        except TimeoutError:
            self._give_up(mine)
            raise _overloaded() from None
        except asyncio.CancelledError:
            self._give_up(mine)
            raise

    def leave(self) -> None:
        """Hand the place to who has waited longest."""
        while self._waiting:
            following = self._waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        self.running -= 1

    def _give_up(self, mine: asyncio.Future[None]) -> None:
        if mine in self._waiting:
            self._waiting.remove(mine)
        elif mine.done() and not mine.cancelled():
            # The place came in the same moment: somebody else shall have it.
            self.leave()


class BoundWork:
    """Lets only so many requests to the application at a time; a place is held until the answer begins.

    What costs much has fewer places than there are threads, so that it never takes all of them from the rest.
    """

    def __init__(self, app: ASGIApp, places: Places, costly: Places) -> None:
        self.app = app
        self._places = places
        self._costly = costly

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, in turn."""
        if scope["type"] != "http" or _WAITS_ITSELF.match(scope["path"]):
            await self.app(scope, receive, send)
            return
        places = self._costly if kind_of(scope["method"], scope["path"]) == COSTLY else self._places
        try:
            await places.take()
        except Overloaded as error:
            await refuse(scope, receive, send, error)
            return
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                places.leave()

        async def send_and_leave(message: Message) -> None:
            # The bytes of an answer cost no place: slow readers may take as long as they like.
            leave()
            await send(message)

        try:
            await self.app(scope, receive, send_and_leave)
        finally:
            leave()


def _overloaded() -> Overloaded:
    return Overloaded("The portal has more to do than it can.", "Try again in a moment.", retry_after=2)
