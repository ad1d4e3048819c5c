"""Jobs of a portal: submit, list, watch, cancel."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from portal.client.answers import read_answer, unexpected
from portal.client.api import UNREACHABLE, Json, Portal
from portal.errors import Unavailable

PATIENCE_S = 120.0
"""How long a portal that was watched may be away."""


@dataclass(frozen=True)
class JobEvent:
    """One thing a job told: ``kind`` is state, log, metrics, checkpoint, note or end."""

    number: int
    kind: str
    data: Json


def submit_job(portal: Portal, body: Json, key: str | None = None) -> Json:
    """Queue a job; with ``key`` the same request sent again is the same job."""
    return _post(portal, "/jobs", body, {"Idempotency-Key": key} if key else {})


def preview_job(portal: Portal, body: Json) -> Json:
    """What a job would read, change and need; nothing is kept."""
    return _post(portal, "/jobs/preview", body)


def cancel_job(portal: Portal, job: int, force: bool = False) -> Json:
    """End a job; what became of it."""
    return _post(portal, f"/jobs/{job}/cancel", {"force": force})


def get_job(portal: Portal, job: int) -> Json:
    """One job whole."""
    return read_answer(portal.request("GET", f"/jobs/{job}"))


def list_jobs(portal: Portal, state: str = "", run: str = "", limit: int = 50) -> Json:
    """The newest jobs: one page."""
    asked = httpx.QueryParams({"state": state, "run": run, "limit": limit})
    return read_answer(portal.request("GET", f"/jobs?{asked}"))


def read_log(portal: Portal, job: int, attempt: int | None = None) -> Iterator[bytes]:
    """The log, byte for byte."""
    asked = "" if attempt is None else f"?attempt={attempt}"
    with portal.open_url(f"{portal.url}/api/v1/jobs/{job}/log{asked}") as answer:
        yield from answer.iter_bytes()


def watch_job(portal: Portal, job: int, after: int = 0) -> Iterator[JobEvent]:
    """Everything a job tells, from the beginning or after a number, until it has ended.

    Goes on where it was cut off: nothing is missed, nothing comes twice. Unavailable when the portal is away too long.
    """
    away = 0.0
    while True:
        try:
            for event in _stream(portal, job, after):
                after, away = event.number, 0.0
                yield event
                if event.kind == "end":
                    return
        except Unavailable:
            if away >= PATIENCE_S:
                raise
        pause = 2.0 if away else 0.2
        time.sleep(pause)
        away += pause


def _stream(portal: Portal, job: int, after: int) -> Iterator[JobEvent]:
    url = f"{portal.url}/api/v1/jobs/{job}/events"
    number, kind, data = after, "message", ""
    try:
        with portal.open_url(url, {"Accept": "text/event-stream", "Last-Event-ID": str(after)}) as answer:
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    number = int(value)
                elif name == "event":
                    kind = value
                elif name == "data":
                    data = value
                elif not line and data:
                    yield JobEvent(number, kind, json.loads(data))
                    kind, data = "message", ""
    except UNREACHABLE as error:
        raise Unavailable(f"{portal.url} no longer answers: {error}.", "It is asked again.") from None
    except ValueError as error:
        raise unexpected(url, error) from error


def _post(portal: Portal, path: str, body: Any, headers: dict[str, str] | None = None) -> Json:
    sent = {"Content-Type": "application/json", **(headers or {})}
    return read_answer(portal.request("POST", path, json.dumps(body).encode(), sent, timeout=300.0))
