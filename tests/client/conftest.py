"""Something to ask: a server of files, and a real portal over a small run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.client import Portal
from portal.database import create_database_engine
from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import SmallRun, small_run
from tests.client.servers import FileServer, file_server, running


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.client.api.FIRST_WAIT", 0.001)
    monkeypatch.setattr("portal.client.ranges.FIRST_WAIT", 0.001)


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def at_files(files: FileServer) -> Iterator[Portal]:
    """A client of the server of files."""
    with Portal(files.url) as portal:
        yield portal


@pytest.fixture
def small(sqlite_settings: Settings, tmp_path: Path) -> SmallRun:
    engine = create_database_engine(sqlite_settings)
    try:
        return small_run(engine, sqlite_settings, tmp_path / "release")
    finally:
        engine.dispose()


@pytest.fixture
def portal(small: SmallRun, sqlite_settings: Settings) -> Iterator[Portal]:
    """A client of a real portal over the small run."""
    with running(create_app(sqlite_settings)) as url, Portal(url) as client:
        yield client
