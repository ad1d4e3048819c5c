"""More than the portal can do: few at a time, a short queue, an answer for everybody else at once, and then as before."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from portal.database import pool_numbers
from portal.errors import Overloaded
from portal.settings import Settings
from portal.web.app import create_app
from portal.web.door.places import BoundWork, Places
from tests.loops import run_apart
from tests.web.door.conftest import Opened


async def _ask(app: BoundWork, path: str = "/x") -> int:
    told: list[int] = []

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            told.append(message["status"])  # type: ignore[arg-type]

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)  # type: ignore[arg-type]
    return told[0]


def test_ten_times_too_much_is_answered_at_once_and_then_all_is_well() -> None:
    running = most = 0

    async def work(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def flood() -> tuple[Counter[int], float, float]:
        places = Places(4, 8, patience=2)
        app = BoundWork(work, places, Places(1, 1, patience=2))
        began = time.perf_counter()
        refused = asyncio.create_task(_many(app, 120))
        statuses = await refused
        seconds = time.perf_counter() - began
        began = time.perf_counter()
        assert await _ask(app) == 200
        assert (places.running, places.waiting) == (0, 0)
        return statuses, seconds, time.perf_counter() - began

    statuses, seconds, after = run_apart(flood())
    assert statuses == {200: 12, 503: 108}
    assert most == 4
    assert (seconds < 2, after < 1) == (True, True)


async def _many(app: BoundWork, count: int) -> Counter[int]:
    return Counter(await asyncio.gather(*(_ask(app) for _ in range(count))))


def test_whoever_waits_too_long_or_leaves_takes_no_place_along() -> None:
    async def run() -> None:
        places = Places(1, 5, patience=0.05)
        await places.take()
        with pytest.raises(Overloaded):
            await places.take()
        waiting = asyncio.create_task(places.take())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (places.running, places.waiting) == (1, 0)
        following = asyncio.create_task(places.take())
        await asyncio.sleep(0)
        places.leave()
        await following
        places.leave()
        assert places.running == 0

    run_apart(run())


def test_what_costs_much_leaves_places_for_the_rest() -> None:
    async def run() -> None:
        blocked = asyncio.Event()

        async def work(scope: Scope, _receive: Receive, send: Send) -> None:
            if scope["path"].endswith("/tokens"):
                await blocked.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        app = BoundWork(work, Places(4, 4), Places(2, 0))
        costly = [asyncio.create_task(_ask(app, "/api/v1/runs/a/b/steps/1/tokens")) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert await _ask(app, "/api/v1/runs") == 200
        blocked.set()
        assert Counter(await asyncio.gather(*costly)) == {200: 2, 503: 1}

    run_apart(run())


def test_beyond_all_requests_a_process_takes_it_says_so(opened: Opened) -> None:
    client = opened(max_requests=1)
    client.app.state.watched.counters.begin()  # type: ignore[attr-defined]
    told = client.get("/api/v1/runs")
    assert (told.status_code, told.json()["code"], told.headers["retry-after"]) == (503, "overloaded", "2")
    assert client.get("/healthz").status_code == 200


def test_a_locked_database_is_told_as_unavailable(sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.database.BUSY_S", 0.2)
    app = create_app(sqlite_settings)
    client = TestClient(app, raise_server_exceptions=False)
    writer = sqlite3.connect(sqlite_settings.data / "portal.sqlite3")
    writer.execute("BEGIN IMMEDIATE")
    form = {"token": "llm360_" + "z" * 43}
    try:
        told = client.post("/sign-out", data=form, headers={"Sec-Fetch-Site": "same-origin", "Accept": "text/html"})
        assert told.status_code == 503
        assert told.headers["retry-after"] == "5"
        assert client.get("/api/v1/runs").status_code == 200, "reading goes on"
    finally:
        writer.close()
        app.state.desk.close()


def test_a_database_without_room_is_507_and_still_read(opened: Opened) -> None:
    client = opened(run=True, anonymous_jobs=True)
    engine = client.app.state.desk.engine  # type: ignore[attr-defined]
    with engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()

    @client.app.get("/api/v1/fill")  # type: ignore[attr-defined]
    def fill() -> None:
        with engine.begin() as connection:
            connection.execute(text(f"PRAGMA max_page_count={pages}"))
            connection.execute(text("CREATE TABLE filling AS SELECT zeroblob(10000000)"))

    told = client.get("/api/v1/fill")
    assert (told.status_code, told.json()["code"]) == (507, "storage-full")
    assert client.get("/api/v1/runs/lab/small").status_code == 200


def test_no_free_connection_is_unavailable_and_soon(sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.database.POOL_S", 0.1)
    app = create_app(sqlite_settings)
    engine = app.state.desk.engine
    client = TestClient(app, raise_server_exceptions=False)
    held = [engine.connect() for _ in range(16)]
    try:
        assert pool_numbers(engine) == (16, 16)
        began = time.perf_counter()
        told = client.get("/api/v1/search?q=x")
        assert (told.status_code, told.json()["code"]) == (503, "unavailable")
        assert time.perf_counter() - began < 2
    finally:
        for connection in held:
            connection.close()
    assert client.get("/api/v1/search?q=x").status_code == 200
    app.state.desk.close()


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


def test_a_question_that_takes_too_long_is_given_up(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"statement_seconds": 0.3}))
    engine, work = app.state.desk.engine, app.state.desk.work_engine

    @app.get("/api/v1/slow")
    def slow() -> None:
        with engine.connect() as connection:
            connection.execute(text(ENDLESS))

    client = TestClient(app, raise_server_exceptions=False)
    for _ in range(2):
        began = time.perf_counter()
        told = client.get("/api/v1/slow")
        assert (told.status_code, told.json()["code"]) == (503, "unavailable")
        assert "took too long" in told.json()["detail"]
        assert "retry-after" in told.headers
        assert time.perf_counter() - began < 4
    assert client.get("/api/v1/runs").status_code == 200
    with work.connect() as connection:
        if work.dialect.name == "sqlite":
            assert connection.connection.driver_connection.limit_s == 60
        else:
            assert connection.execute(text("SHOW statement_timeout")).scalar() == "1min"
    app.state.desk.close()


def test_postgres_ends_a_transaction_that_does_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    if settings.resolved_database_url.startswith("sqlite"):
        return
    monkeypatch.setattr("portal.database.IDLE_S", 1.5)
    app = create_app(settings.model_copy(update={"statement_seconds": 0.3}))
    engine = app.state.desk.engine

    @app.get("/api/v1/idle")
    def idle() -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            time.sleep(3)
            connection.execute(text("SELECT 1"))

    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/api/v1/idle").status_code == 503
    assert client.get("/api/v1/runs").status_code == 200
    app.state.desk.close()
