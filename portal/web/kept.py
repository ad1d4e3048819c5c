"""Answers kept as bytes: what is derived from published runs is serialised once and served until the catalog changes.

Sits outside the framework, so that a kept answer costs a dictionary look-up. An answer is kept under its
address, the headers it varies by and what its reader may see, together with the catalog's stamp; another stamp makes all
of them stale, as it is another one when a run becomes private or public.
"""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from blake3 import blake3
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portal.catalog.revisions import Stamp, clock_of
from portal.catalog.sight import current_sight
from portal.database import DatabaseDown, Engine, open_session
from portal.web.headers import with_security

Headers = list[tuple[bytes, bytes]]

KEPT = re.compile(
    rb"^(/api/v1)?/runs(/[^/]+/[^/]+(/(timeline|lanes|figure(\.csv)?|lineage|configs|events|findings|evaluations|metrics/data"
    rb"|(checkpoints|chunks)(/[^/]+)?|metrics|steps/[^/]+/pair))?)?/?$|^/$|^/runs/[^/]+/[^/]+/steps/[^/]+$"
    rb"|^(/api/v1)?/compare$|^/compare/figure$"
)
"""Addresses whose answers follow from the catalog alone. Token rows are not among them, as their bytes lie in
files; nor is a step's JSON, which is made faster than it is worth keeping."""

ONE_OFF = re.compile(rb"/metrics/data$")
"""Addresses mostly asked for once, as every zoom is another one: kept from the second time on."""

STAMP = "portal.stamp"
"""Where a request carries the catalog's stamp, once it has been read for it."""

MAX_ANSWER = 4 << 20
MAX_MET = 4096
"""Such addresses remembered as having been asked for."""
MIN_COMPRESSED = 1024
SERVER_MEMORY_SECONDS = 0.25
"""How long the stamp of a database server is believed; an embedded one is asked every time."""
_VARY = (b"host", b"hx-request", b"hx-target", b"hx-history-restore-request")
_NOT_KEPT = {b"content-length", b"date", b"server", b"etag", b"set-cookie", b"cache-control"}


@dataclass
class KeptAnswer:
    """One answer with its encodings."""

    stamp: Stamp
    etag: bytes
    headers: Headers
    body: bytes
    size: int
    hits: int = 0
    packed: bytes | None = None
    heads: dict[bool, Headers] = field(default_factory=dict)

    def encoded(self, gzipped: bool) -> tuple[Headers, bytes]:
        """Headers and body, compressed once the second reader asks for it."""
        if gzipped and self.packed is None:
            self.packed = gzip.compress(self.body, 5, mtime=0)
        body = self.packed if gzipped and self.packed is not None else self.body
        if gzipped not in self.heads:
            tag = self.etag[:-1] + b'-gzip"' if gzipped else self.etag
            extra = [(b"content-encoding", b"gzip")] if gzipped else []
            length = (b"content-length", str(len(body)).encode())
            self.heads[gzipped] = [*self.headers, (b"etag", tag), (b"cache-control", b"no-cache"), length, *extra]
        return self.heads[gzipped], body


class AnswerShelf:
    """Kept answers, bounded in bytes; the one asked for longest ago goes first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = self.hits = self.misses = 0
        self._kept: OrderedDict[tuple[bytes, ...], KeptAnswer] = OrderedDict()
        self._met: OrderedDict[int, None] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: tuple[bytes, ...], stamp: Stamp) -> KeptAnswer | None:
        """The answer, when it was made under this stamp."""
        with self._lock:
            found = self._kept.get(key)
            if found is None or found.stamp != stamp:
                self.misses += 1
                return None
            self._kept.move_to_end(key)
            self.hits += 1
            found.hits += 1
            return found

    def keep(self, key: tuple[bytes, ...], answer: KeptAnswer) -> None:
        """Remember it, and forget what no longer fits."""
        with self._lock:
            old = self._kept.pop(key, None)
            self.bytes += answer.size - (old.size if old else 0)
            self._kept[key] = answer
            while self.bytes > self.max_bytes and self._kept:
                self.bytes -= self._kept.popitem(last=False)[1].size

    def met_before(self, key: tuple[bytes, ...]) -> bool:
        """Whether this was asked for not long ago; from now on it was."""
        with self._lock:
            known = hash(key) in self._met
            self._met[hash(key)] = None
            if len(self._met) > MAX_MET:
                self._met.popitem(last=False)
            return known

    def __len__(self) -> int:
        return len(self._kept)


class KeepAnswers:
    """Serves kept answers and keeps new ones; also answers If-None-Match for them."""

    def __init__(self, app: ASGIApp, engine: Engine, shelf: AnswerShelf) -> None:
        self.app = app
        self.shelf = shelf
        self._engine = engine
        self._clock = clock_of(engine)
        self._read: tuple[float, Stamp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from the shelf, or let the application answer and keep that."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD") or not KEPT.match(scope["path"].encode()):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        key = (
            scope["scheme"].encode(),
            scope["path"].encode(),
            scope["query_string"],
            *(headers.get(name, b"") for name in _VARY),
            current_sight().key,
        )
        try:
            stamp = await self._stamp()
        except DatabaseDown:
            # The application meets the same and knows how to say so.
            await self.app(scope, receive, send)
            return
        scope[STAMP] = stamp
        answer = self.shelf.find(key, stamp)
        if answer is None:
            answer = await self._ask(scope, receive, send, stamp)
            if answer is None:
                return
            if not ONE_OFF.search(key[1]) or self.shelf.met_before(key):
                self.shelf.keep(key, answer)
        await _send(answer, scope["method"], headers, send)

    async def _stamp(self) -> Stamp:
        if self._clock.local:
            return self._clock.local_stamp()
        if self._read is None or time.monotonic() - self._read[0] > SERVER_MEMORY_SECONDS:
            self._read = time.monotonic(), await run_in_threadpool(self._query)
        return self._read[1]

    def _query(self) -> Stamp:
        with open_session(self._engine) as session:
            return self._clock.stamp(session)

    async def _ask(self, scope: Scope, receive: Receive, send: Send, stamp: Stamp) -> KeptAnswer | None:
        """The application's answer when it can be kept; None when it was sent on as it came."""
        recorder = _Recorder(send)
        await self.app({**scope, "method": "GET"} if scope["method"] == "HEAD" else scope, receive, recorder)
        return recorder.answer(stamp)


class _Recorder:
    """Holds back a whole 200 answer; anything else goes straight to the client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._parts: list[bytes] = []
        self._passed_on = False

    async def __call__(self, message: Message) -> None:
        if self._passed_on:
            await self._send(message)
            return
        if message["type"] == "http.response.start":
            self._start = message
            if message["status"] != 200:
                await self._pass_on()
            return
        self._parts.append(message.get("body", b""))
        if sum(map(len, self._parts)) > MAX_ANSWER:
            await self._pass_on(message.get("more_body", False))

    async def _pass_on(self, more: bool = True) -> None:
        self._passed_on = True
        if self._start is not None:
            await self._send(self._start)
        if self._parts:
            await self._send({"type": "http.response.body", "body": b"".join(self._parts), "more_body": more})

    def answer(self, stamp: Stamp) -> KeptAnswer | None:
        if self._passed_on or self._start is None:
            return None
        body = b"".join(self._parts)
        headers = [(n, v) for n, v in self._start["headers"] if n not in _NOT_KEPT and n != b"vary"]
        vary = {v.strip() for n, value in self._start["headers"] if n == b"vary" for v in value.split(b",")}
        headers.append((b"vary", b", ".join(sorted(vary | {b"Accept-Encoding"}))))
        own = next((value for name, value in self._start["headers"] if name == b"etag"), None)
        # An endpoint that knows what its answer follows from need not have it hashed.
        etag = own or b'"' + blake3(body).hexdigest(12).encode() + b'"'
        return KeptAnswer(stamp, etag, with_security(headers), body, 2 * len(body) + 2048)


async def _send(answer: KeptAnswer, method: str, request: dict[bytes, bytes], send: Send) -> None:
    wanted = request.get(b"if-none-match")
    if wanted is not None and matches(wanted, answer.etag):
        kept = [(n, v) for n, v in answer.headers if n not in (b"content-type",)]
        await send({"type": "http.response.start", "status": 304, "headers": [*kept, (b"etag", answer.etag)]})
        await send({"type": "http.response.body", "body": b""})
        return
    # The first reader does not wait for compression: most answers are asked for once.
    gzipped = answer.hits > 0 and len(answer.body) >= MIN_COMPRESSED and b"gzip" in request.get(b"accept-encoding", b"")
    headers, body = answer.encoded(gzipped)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def matches(wanted: bytes, etag: bytes) -> bool:
    """Whether If-None-Match names this entity, in whichever encoding (weak comparison)."""
    tags = (t.strip().removeprefix(b"W/") for t in wanted.split(b","))
    return any(t == b"*" or t.replace(b'-gzip"', b'"') == etag for t in tags)
