"""The page of promises: each with its last check, of what the reader may see."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

from portal.catalog.audit.listing import list_entries
from portal.catalog.promises import VERIFIED
from portal.database import Engine, open_session
from portal.scan.history import HistoryWatch, follow
from portal.scan.verify import Plan, verify_run
from portal.settings import Settings
from tests.builders import SmallRun
from tests.catalog.test_audit import cheat

HERE = "/api/v1/promises"


def test_before_anybody_looked_nothing_is_claimed(app: FastAPI) -> None:
    client = TestClient(app)
    told = client.get(HERE).json()
    assert told["files"]["newest"] is None
    assert told["history"]["verified_at"] is None
    assert told["files"]["total"] == told["runs"]["runs"] == 0
    page = client.get("/promises").text
    assert "not followed yet" in page
    assert "not looked yet" in page
    assert "whole when last followed" not in page


def test_looks_are_counted_with_their_time(
    client: TestClient, engine: Engine, settings: Settings, small: SmallRun
) -> None:
    before = client.get(HERE).json()["files"]
    verify_run(engine, settings, "lab/small", Plan(hash_local=True))
    told = client.get(HERE).json()["files"]
    assert told["total"] == before["total"] > 0
    assert told["verified"] > 0
    assert told["wrong"] == 0
    assert datetime.fromisoformat(told["newest"]) <= datetime.now(UTC)
    assert "nothing wrong found" in client.get("/promises").text


def test_a_vanished_file_is_said_at_the_top(
    client: TestClient, engine: Engine, settings: Settings, small: SmallRun, tmp_path: Path
) -> None:
    next((tmp_path / "release").rglob("optimizer.bin")).unlink()
    verify_run(engine, settings, "lab/small", Plan(hash_local=True))
    assert client.get(HERE).json()["files"]["wrong"] == 1
    assert "1 wrong now" in client.get("/promises").text


def test_the_history_is_followed_once_a_day_and_that_is_on_record(
    app: FastAPI, client: TestClient, engine: Engine, small: SmallRun
) -> None:
    watch = HistoryWatch(engine, None, "")
    report = watch.follow_once()
    assert report is not None
    assert report.broken is None
    told = client.get(HERE).json()["history"]
    assert (told["entries"], told["verified_entries"]) == (report.entries + 1, report.entries)
    with open_session(engine) as session:
        assert list_entries(session, None).items[0].action == VERIFIED
    assert watch.follow_once() is None
    assert "whole when last followed" in client.get("/promises").text


def test_a_broken_history_is_never_said_to_be_whole(
    client: TestClient, engine: Engine, small: SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    cheat(engine, "update audit_entry set actor = 'somebody else' where seq = 1")
    report = follow(engine)
    assert report.broken is not None
    assert "broken at entry 1" in caplog.text
    assert client.get(HERE).json()["history"]["verified_at"] is None
    with open_session(engine) as session:
        assert (
            session.execute(text("select count(*) from audit_entry where action = :a"), {"a": VERIFIED}).scalar() == 0
        )
