"""The worker's side of the portal's API: one method per question, and what a refusal means for an attempt."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from portal.client.answers import read_answer
from portal.client.api import UNREACHABLE, Portal
from portal.client.refusals import read_refusal
from portal.client.upload import upload_blob
from portal.errors import (
    Conflict,
    Forbidden,
    LogGap,
    NotFound,
    PortalError,
    StaleLease,
    Unauthorized,
    Unavailable,
    UsageError,
)
from portal.worker.spool import Json, Lease

TIMEOUT = httpx.Timeout(30.0, connect=10.0)
LONG = httpx.Timeout(600.0, connect=10.0)
"""For answers that wait until files were looked at."""
UPLOAD_TRIES = 5
"""Failures in a row after which an upload is left for the next look."""
PASSING = {408, 425, 429, 500, 502, 503, 504, 507}
"""Refusals that may pass by."""


def transport_to(url: str) -> httpx.HTTPTransport:
    """Connections to a portal. Authorities are read once in a process, and not at all for an address without TLS."""
    return httpx.HTTPTransport(verify=_authorities() if url.startswith("https://") else _nobody())


@cache
def _authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()


@cache
def _nobody() -> ssl.SSLContext:
    """Trusts nobody: what is not meant to speak TLS never will."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Calls:
    """HTTP with a token. A portal that does not answer, or not now, is Unavailable."""

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is no address of a portal.", "It begins with http:// or https://.")
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}", "User-Agent": "llm360-portal-worker"}
        self.http = httpx.Client(headers=headers, transport=transport or transport_to(url), timeout=TIMEOUT)

    def close(self) -> None:
        """Let go of the connections."""
        self.http.close()

    def send(self, method: str, path: str, **given: Any) -> httpx.Response:
        """The answer, when it is no refusal."""
        try:
            answer = self.http.request(method, f"{self.url}/api/v1{path}", **given)
        except UNREACHABLE as error:
            said = str(error).rstrip(".") or type(error).__name__
            raise Unavailable(f"{self.url} does not answer: {said}.", "It is asked again.") from None
        if answer.status_code < 300:
            return answer
        if answer.is_redirect:
            raise Unavailable(
                f"{self.url} redirects to {answer.headers.get('location', 'nowhere')}.",
                "Give its own address by --url.",
            )
        raise _refused(answer)


class WorkerCalls(Calls):
    """What an agent asks with the worker's token."""

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__(url, token, transport)
        self._sockets: list[socket.socket] = []

    def hang_up(self) -> None:
        """Break off a question for a job that waits for its answer: a portal gives none to who has hung up."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def attach(self, about: Json) -> Json:
        """Register; Unauthorized, Forbidden, NameTaken."""
        return read_answer(self.send("POST", "/workers", json=about))

    def lease(self, worker: int, asked: Json) -> Json | None:
        """A job, or None when there is none in time; Conflict when another agent has taken this one's place."""
        wait = float(asked.get("wait", 0))
        timeout = httpx.Timeout(wait + 30.0, connect=10.0)
        extensions = {"trace": self._note_socket}
        place = f"/workers/{worker}/lease"
        answer = self.send("POST", place, json=asked, timeout=timeout, extensions=extensions)
        return None if answer.status_code == 204 else read_answer(answer)

    def _note_socket(self, event: str, told: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            self._sockets[:] = [told["return_value"].get_extra_info("socket")]


class AttemptCalls(Calls):
    """What is said about one attempt, with its own token.

    StaleLease from any of them means that the attempt has no right to run any more: its job was given to another
    one, has ended, or its worker's token was revoked.
    """

    def __init__(self, lease: Lease, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__(lease.url, lease.attempt_token, transport)
        self._portal = Portal(lease.url, lease.attempt_token, transport or transport_to(lease.url))
        self._place = f"/jobs/{lease.job}/attempts/{lease.attempt}"
        self._fence = lease.fence

    def heartbeat(self, beat: Mapping[str, Any]) -> str:
        """Keep the lease; whether to stop: ``no``, ``graceful`` or ``kill``."""
        return str(read_answer(self._say("heartbeat", json={"fence": self._fence, **beat}))["cancel"])

    def log(self, offset: int, data: bytes) -> int:
        """Hand in a piece of the log; the offset to go on from, which a gap may have set back."""
        try:
            answer = self._say("logs", params={"fence": self._fence, "offset": offset}, content=data)
        except LogGap as gap:
            expected = gap.extra.get("expected")
            if isinstance(expected, int) and 0 <= expected < offset:
                return expected
            raise
        return int(read_answer(answer)["offset"])

    def metrics(self, points: Sequence[Json]) -> None:
        """Hand in numbers."""
        self._say("metrics", json={"fence": self._fence, "points": list(points)})

    def outputs(self, step: int, kind: str, files: Sequence[Json]) -> None:
        """Announce a checkpoint whose files were uploaded; BlobMissing, or why it does not count."""
        body = {"fence": self._fence, "step": step, "kind": kind, "files": list(files)}
        self._say("outputs", json=body, timeout=LONG)

    def complete(self, said: Json) -> str:
        """Tell how the attempt ended; the job's state after it."""
        return str(read_answer(self._say("complete", json={"fence": self._fence, **said}, timeout=LONG))["state"])

    def upload(self, path: Path, sha256: str, size: int) -> None:
        """Put a file into the portal's store, unless it is there."""
        try:
            upload_blob(self._portal, path, sha256, size, tries=UPLOAD_TRIES)
        except (Unauthorized, Forbidden) as error:
            raise StaleLease(error.message, "Stop.") from None

    def close(self) -> None:
        """Let go of the connections."""
        super().close()
        self._portal.close()

    def _say(self, what: str, **given: Any) -> httpx.Response:
        try:
            return self.send("POST", f"{self._place}/{what}", **given)
        except (Unauthorized, Forbidden, NotFound) as error:
            raise StaleLease(error.message, "Stop.") from None


def _refused(answer: httpx.Response) -> PortalError:
    error = read_refusal(answer)
    if answer.status_code in PASSING and not isinstance(error, Conflict | Unavailable):
        return Unavailable(error.message, error.remedy, answered=answer.status_code)
    return error
