"""HTTP for stores: one request with its redirects, judged addresses, a bounded answer, and no secret in any error."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import httpcore
import httpx

from portal.errors import BadRequest, PortalError, Unavailable
from portal.storage.addresses import Admission, GuardedNetwork
from portal.storage.retries import PASSING_STATES, Passing, Patience
from portal.storage.store import Meter

REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5
CONNECTIONS = 64
USER_AGENT = "llm360-portal"


@dataclass(frozen=True)
class Asked:
    """One request."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    private: Mapping[str, str] = field(default_factory=dict)
    """Headers that only the origin of ``url`` may see."""
    limit: int = 0
    """Bytes of the answer's body that are taken at most; a longer one ends the answer."""
    follow: bool = True
    """Whether redirects to other origins are followed; those inside the origin always are."""


@dataclass(frozen=True)
class Reply:
    """An answer: header names are lower case; ``body`` is empty where it was longer than the limit."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    overlong: bool
    first: Mapping[str, str] = field(default_factory=dict)
    """Headers of the first answer, where redirects led here from it; else the same."""


class Wire:
    """Connections kept open between requests; safe to use from several threads."""

    def __init__(self, patience: Patience, admission: Admission) -> None:
        self.patience = patience
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=CONNECTIONS,
            max_keepalive_connections=CONNECTIONS,
            keepalive_expiry=30,
            network_backend=GuardedNetwork(admission),
        )
        weakref.finalize(self, self._pool.close)

    def send(self, asked: Asked, meter: Meter) -> Reply:
        """One answer, redirects followed. Raises Passing for what may pass, Unavailable for what will not."""
        url = _written(asked.url)
        origin = _origin(url)
        first: Mapping[str, str] | None = None
        for _ in range(MOST_REDIRECTS + 1):
            own = asked.private if _origin(url) == origin else {}
            reply = self._once(asked, url, {**asked.headers, **own}, meter)
            first = reply.headers if first is None else first
            target = reply.headers.get("location")
            if reply.status not in REDIRECTS or not target:
                return replace(reply, first=first)
            onward = _onward(url, target)
            if not asked.follow and _origin(onward) != origin:
                return replace(reply, first=first)
            url = onward
        raise Unavailable(
            f"{shown(asked.url)} redirects more than {MOST_REDIRECTS} times.", "Use the address it leads to."
        )

    def _once(self, asked: Asked, url: str, headers: Mapping[str, str], meter: Meter) -> Reply:
        meter.count(requests=1)
        sent = [("Host", urlsplit(url).netloc), ("User-Agent", USER_AGENT), ("Accept-Encoding", "identity")]
        timeout = dict.fromkeys(("read", "write", "pool"), self.patience.timeout_s)
        timeout["connect"] = self.patience.connect_s
        try:
            with self._pool.stream(
                asked.method, url, headers=[*sent, *headers.items()], extensions={"timeout": timeout}
            ) as answer:
                told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                if answer.status in PASSING_STATES:
                    raise Passing(f"it answered {answer.status}", _seconds(told.get("retry-after")))
                body, overlong = self._body(answer, asked.limit, meter)
                return Reply(url, answer.status, told, body, overlong)
        except httpcore.TimeoutException:
            raise Passing(f"nothing came for {self.patience.timeout_s:g} s") from None
        except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
            raise Passing(f"the connection failed: {_words(error)}") from None
        except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol):
            raise BadRequest(f"{shown(url)} is not an address that can be asked.", "Correct it.") from None

    def _body(self, answer: httpcore.Response, limit: int, meter: Meter) -> tuple[bytes, bool]:
        parts: list[bytes] = []
        size, end = 0, time.monotonic() + self.patience.deadline_s(limit)
        for part in answer.iter_stream():
            parts.append(part)
            size += len(part)
            meter.count(received=len(part))
            if size > limit:
                return b"", True
            if time.monotonic() > end:
                raise Passing("its answer trickles")
        return parts[0] if len(parts) == 1 else b"".join(parts), False


def shown(url: str) -> str:
    """An address as messages may show it: without a user's name, password, query or fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "An address that cannot be read"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:500]


def _written(url: str) -> str:
    """As it goes over the wire: what a URL cannot hold is percent-encoded, what is encoded stays."""
    wrong = BadRequest(f"{shown(url)!r} is not an address of a file on the web.", "Write https://host/path.")
    try:
        parts = urlsplit(url)
        netloc = parts.netloc.encode("ascii" if parts.netloc.isascii() else "idna").decode()
        _ = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in netloc:
        raise wrong
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~") or "/"
    return urlunsplit((parts.scheme, netloc, path, quote(parts.query, safe="/%:@!$&'()*+,;=~?"), ""))


def _onward(url: str, target: str) -> str:
    onward = urljoin(url, target)
    if url.startswith("https:") and not onward.startswith("https:"):
        raise Unavailable(f"{shown(url)} redirects to an address that is not https.", "Use a server that does not.")
    try:
        return _written(onward)
    except PortalError:
        raise Unavailable(f"{shown(url)} redirects to no address of the web.", "Correct the server.") from None


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() and len(text) < 6 else None


def _words(error: Exception) -> str:
    """The reason without addresses; TLS and the system put the useful part last."""
    return str(error).rpartition("] ")[2].partition(" (_ssl")[0][:120] or type(error).__name__
