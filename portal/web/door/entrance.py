"""The door: every request gets its id and its client, is let in or told to come later, and is counted and logged.

It stands outside of kept answers, which take a tenth of a millisecond, so it looks at each header once and does only
arithmetic: nothing here waits, allocates a thread or asks the database.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portal.catalog.accounts import MARK
from portal.errors import Overloaded, PortalError, RateLimited
from portal.settings import Settings
from portal.web.door.asked import ASKED, SANE_ID, Asked, current, new_id
from portal.web.door.clients import Clients, Networks
from portal.web.door.counters import KNOWN_PATHS, REFUSED, Counters
from portal.web.door.heads import head_fault
from portal.web.door.kinds import BAD_TOKENS, kind_of
from portal.web.door.logs import ACCESS, SLOW_S
from portal.web.door.rates import Quota, Rates, Taken, read_quotas
from portal.web.door.refusing import refuse

HUNG_UP = 499
"""Status under which a request is told whose client did not wait for the answer."""
REMEMBERED_S = 60.0
"""Seconds for which a token that was found good has its own quota."""
MOST_TOKENS = 10_000
NOTE_S = 1.0

ASKER = "portal.asker"
"""Where a request carries who asks, once that is known (`portal.web.askers`)."""

access = logging.getLogger(ACCESS)


@dataclass(frozen=True)
class Front:
    """What stands at the door of one process."""

    settings: Settings
    clients: Clients
    counters: Counters
    rates: Rates
    quotas: tuple[dict[str, Quota], dict[str, Quota]]
    """Of addresses, and of tokens."""
    regularly: list[Callable[[], None]] = field(default_factory=list)
    """Called now and then while requests come."""

    @classmethod
    def of(cls, settings: Settings, templates: list[str], shared: Path | None = None) -> Front:
        """As the settings say; UsageError for those that cannot be read."""
        clients = Clients(Networks(settings.trusted_proxies, "PORTAL_TRUSTED_PROXIES"))
        quotas = read_quotas(settings.rates)
        return cls(settings, clients, Counters(shared, templates), Rates(shared), quotas)


class Entrance:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, front: Front) -> None:
        self.app = app
        self._front = front
        self._counters = front.counters
        self._refused = front.counters.routes.numbers[REFUSED]
        chosen = front.settings.access_log or ("all" if front.settings.log == "json" else "notable")
        self._logs_all, self._logs = chosen == "all", chosen != "none"
        self._tokens: dict[bytes, tuple[str, float]] = {}
        self._kinds: dict[str, str] = {}
        self._noted = time.perf_counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse; count it either way."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = dict(scope["headers"])
        asked = self._meet(scope, told)
        fault, extra = self._let_in(scope, asked, told)
        status = 0
        extra.append((b"x-request-id", asked.id.encode()))

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *extra]
            else:
                asked.sent += len(message.get("body", b""))
            await send(message)

        self._counters.begin()
        try:
            if fault is None:
                await self.app(scope, receive, tell)
            else:
                await refuse(scope, receive, tell, fault, close=fault.status in (414, 431))
        finally:
            asker = scope.get(ASKER)
            if asker is not None:
                self._note_asker(asker, asked, told)
            self._tell_of(scope, asked, status or HUNG_UP, fault is not None)

    def _meet(self, scope: Scope, told: dict[bytes, bytes]) -> Asked:
        """Who asks, under which id."""
        clients = self._front.clients
        peer = clients.peer(scope)
        number, trusted = None, peer.trusted
        if trusted:
            number = told.get(b"x-request-id")
            peer = clients.behind(peer, scope, told)
        elif b"x-forwarded-for" in told:
            clients.warn(peer)
        name = number.decode() if number is not None and SANE_ID.fullmatch(number) else new_id()
        asked = Asked(name, peer.address, peer.client, trusted, time.perf_counter())
        scope[ASKED] = asked
        current.set(asked)
        return asked

    def _let_in(
        self, scope: Scope, asked: Asked, told: dict[bytes, bytes]
    ) -> tuple[PortalError | None, list[tuple[bytes, bytes]]]:
        """Why not, if so; and what the answer tells of the quota."""
        fault = head_fault(scope, told)
        if fault is not None:
            return fault, []
        kind = self._kinds.get(scope["path"]) if scope["method"] == "GET" else None
        if kind is None:
            kind = self._look_up(scope)
        if not kind:
            return None, []
        if self._counters.in_flight >= self._front.settings.max_requests:
            self._counters.add("shed")
            return Overloaded("The portal has more to do than it can.", "Try again in a moment.", retry_after=2), []
        holder = self._holder(told)
        by_address, by_token = self._front.quotas
        quota = (by_token if holder else by_address).get(kind)
        if holder is None and b"authorization" in told:
            refused = self._bad_tokens(asked)
            if refused is not None:
                return refused
        if quota is None:
            return None, []
        taken = self._front.rates.take(quota, holder or asked.client)
        if taken.left < 0:
            return self._limited(quota, taken)
        if taken.left * 2 > quota.most:
            # Worth its bytes only to those who might reach it.
            return None, []
        return None, [(b"ratelimit-policy", quota.policy), (b"ratelimit", _state(quota, taken))]

    def _look_up(self, scope: Scope) -> str:
        """The kind of a request; of reads it is remembered by their address, as kept answers are asked for again."""
        kind = kind_of(scope["method"], scope["path"])
        if scope["method"] == "GET":
            if len(self._kinds) >= KNOWN_PATHS:
                self._kinds.clear()
            self._kinds[scope["path"]] = kind
        return kind

    def _bad_tokens(self, asked: Asked) -> tuple[PortalError, list[tuple[bytes, bytes]]] | None:
        quota = self._front.quotas[0].get(BAD_TOKENS)
        if quota is None:
            return None
        taken = self._front.rates.take(quota, asked.client, charge=False)
        return self._limited(quota, taken) if taken.left < 0 else None

    def _limited(self, quota: Quota, taken: Taken) -> tuple[PortalError, list[tuple[bytes, bytes]]]:
        self._counters.add(f"limited:{quota.kind}")
        seconds = max(1, math.ceil(taken.seconds))
        error = RateLimited(
            f"Too many requests of this kind ({quota.kind}): {quota.most:,} a minute are answered.",
            f"Come again in {seconds} {'second' if seconds == 1 else 'seconds'}.",
            retry_after=seconds,
        )
        return error, [(b"ratelimit-policy", quota.policy), (b"ratelimit", _state(quota, taken))]

    def _holder(self, told: dict[bytes, bytes]) -> str | None:
        """The name of a token that was found good not long ago."""
        secret = told.get(b"authorization")
        if secret is None:
            return None
        found = self._tokens.get(_digest(secret))
        return found[0] if found is not None and found[1] > time.monotonic() else None

    def _note_asker(self, asker: Any, asked: Asked, told: dict[bytes, bytes]) -> None:
        """A token that was found good gets its own quota from the next request on; one that was not costs another."""
        quota = self._front.quotas[0].get(BAD_TOKENS)
        if asker.caller is not None:
            asked.caller = asker.caller.name
            self._remember(told, asker.caller.name)
        elif quota is not None and asker.secret is not None and asker.secret.startswith(MARK):
            self._front.rates.take(quota, asked.client)

    def _remember(self, told: dict[bytes, bytes], name: str) -> None:
        secret = told.get(b"authorization")
        if secret is None:
            return
        if len(self._tokens) >= MOST_TOKENS:
            self._tokens.clear()
        self._tokens[_digest(secret)] = (f"token {name}", time.monotonic() + REMEMBERED_S)

    def _tell_of(self, scope: Scope, asked: Asked, status: int, refused: bool) -> None:
        seconds = time.perf_counter() - asked.began
        routes = self._counters.routes
        if refused:
            number = self._refused
        elif asked.route and (known := routes.numbers.get(asked.route)) is not None:
            number = known
        else:
            number = routes.find(scope["path"])
        self._counters.end(number, status, seconds, asked.sent)
        if asked.began - self._noted > NOTE_S:
            self._noted = asked.began
            for note in self._front.regularly:
                note()
        if self._logs and (self._logs_all or status >= 500 or status == 429 or seconds > SLOW_S):
            fields = {
                "method": scope["method"],
                "route": routes.templates[number],
                "path": scope["path"][:500],
                "status": status,
                "ms": round(seconds * 1000, 2),
                "bytes": asked.sent,
                "client": asked.address,
                "caller": asked.caller,
            }
            access.info("request", extra={"fields": fields})


class NoteRoute:
    """The innermost layer: which route the framework chose, before copies of the scope are let go."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, then look."""
        try:
            await self.app(scope, receive, send)
        finally:
            asked = scope.get(ASKED)
            if asked is not None:
                asked.route = getattr(scope.get("route"), "path", "")


def _state(quota: Quota, taken: Taken) -> bytes:
    return b'"%s";r=%d;t=%d' % (quota.kind.encode(), max(taken.left, 0), math.ceil(taken.seconds))


def _digest(secret: bytes) -> bytes:
    return blake2b(secret, digest_size=16).digest()
