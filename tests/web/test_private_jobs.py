"""Jobs on private runs: their workers read what they need and no more, and what comes out is as private."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from portal.catalog.accounts import create_token, revoke_token
from portal.catalog.visibility import set_visibility
from portal.settings import Settings
from portal.web import asking, job_events
from tests.loops import run_apart
from tests.web.test_jobs_results import Lab


@pytest.fixture
def lab(app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path) -> Lab:
    lab = Lab(app, engine, settings, tmp_path)
    set_visibility(engine, lab.run.run, "private")
    return lab


def test_a_private_run_is_trained_on_and_what_comes_out_is_private(lab: Lab, engine: Engine) -> None:
    organisation = lab.run.run.split("/")[0]
    lease = lab.start()
    attempt = {"Authorization": f"Bearer {lease['attempt_token']}"}
    needed = [lease["plan_url"], *(file["url"] for file in lease["files"])]
    assert len(needed) > 2
    for address in needed:
        assert lab.http.get(address, headers=attempt).status_code == 200, address
        # Neither anybody nor the worker itself, outside of its attempts.
        assert lab.http.get(address).status_code == lab.http.get(address, headers=lab.worker).status_code == 404
    assert lab.train(lease).json() == {"state": "succeeded"}
    assert lab.http.get(needed[1], headers=attempt).status_code == 404
    job = lab.http.get(f"/api/v1/jobs/{lease['job']}", headers=lab.person).json()
    assert lab.http.get(f"/api/v1/jobs/{lease['job']}").status_code == 404
    for name, status in ((organisation, 200), ("other", 404)):
        secret, _ = create_token(engine, "reader", None, name)
        asked = lab.http.get(f"/api/v1/runs/{job['derived_run']}", headers={"Authorization": f"Bearer {secret}"})
        assert asked.status_code == status
    assert lab.http.get("/api/v1/runs").json()["total"] == 0


def test_a_worker_of_another_organisation_is_not_given_it(lab: Lab, engine: Engine) -> None:
    wish = {"kind": "replay", "run": lab.run.run, "step": 10}
    assert lab.http.post("/api/v1/jobs", json=wish, headers=lab.person).status_code == 201
    for organisation, status in (("other", 204), (lab.run.run.split("/")[0], 200)):
        secret, _ = create_token(engine, "worker", None, organisation)
        bearer = {"Authorization": f"Bearer {secret}"}
        worker = lab.http.post("/api/v1/workers", json={"name": organisation}, headers=bearer).json()["worker"]
        asked = lab.http.post(f"/api/v1/workers/{worker}/lease", json={"free_slots": 1, "wait": 0}, headers=bearer)
        assert asked.status_code == status


class Listener:
    """Somebody who listens to a job in this process, as its server would let them."""

    def __init__(self, app: FastAPI, job: int, secret: str | None = None) -> None:
        self.heard, self.over = b"", False
        headers = [(b"host", b"portal")] + ([(b"authorization", f"Bearer {secret}".encode())] if secret else [])
        path = f"/api/v1/jobs/{job}/events"
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": headers}
        scope |= {"scheme": "http", "query_string": b"", "client": ("203.0.113.7", 1), "server": ("portal", 80)}
        self.task = asyncio.create_task(app({**scope, "http_version": "1.1"}, self._receive, self._send))

    async def until(self, text: bytes) -> None:
        while text not in self.heard:
            assert not self.over, self.heard
            await asyncio.sleep(0.01)

    async def leave(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _receive(self) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.heard += message["body"]
            self.over = not message.get("more_body")


@contextmanager
def looked_at_often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as quick:
        quick.setattr(job_events, "LOOK_S", 0.02)
        quick.setattr(job_events, "ALIVE_S", 0.1)
        quick.setattr(asking, "AGAIN_S", 0.05)
        yield


def test_a_stream_ends_for_those_who_may_not_see_the_job_any_more(
    app: FastAPI, lab: Lab, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run turns private while a stranger listens; later one of two tokens that still see it is revoked."""
    set_visibility(engine, lab.run.run, "public")
    lease = lab.start()
    organisation = lab.run.run.split("/")[0]
    (first, view), (second, _) = (create_token(engine, "reader", name, organisation) for name in ("one", "two"))

    def tell(message: str) -> None:
        lab.say(lease, "heartbeat", phase=message)

    async def listen() -> None:
        everybody = [Listener(app, lease["job"], secret) for secret in (None, None, first, second)]
        strangers, (one, two) = everybody[:2], everybody[2:]
        for listener in everybody:
            await listener.until(b"Attempt 1 went to")
        await asyncio.to_thread(set_visibility, engine, lab.run.run, "private")
        await asyncio.to_thread(tell, "preparing")
        for listener in (one, two):
            await listener.until(b'"preparing"')
        for listener in strangers:
            await listener.task
            assert b"preparing" not in listener.heard
        await asyncio.to_thread(revoke_token, engine, view.name)
        await one.task
        await asyncio.to_thread(tell, "running")
        await two.until(b'"running"')
        assert b"running" not in one.heard
        await two.leave()

    with looked_at_often(monkeypatch):
        run_apart(asyncio.wait_for(listen(), 30))
    assert lab.http.get(f"/api/v1/jobs/{lease['job']}/events").status_code == 404
