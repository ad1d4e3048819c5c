"""A portal over a small run on SQLite, asked without a network; what stands at its door is what is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import small_run

Opened = Callable[..., TestClient]


@pytest.fixture
def opened(sqlite_settings: Settings, tmp_path: Path) -> Iterator[Opened]:
    """Makes a client of a portal with these settings; ``peer`` is where the client stands."""
    engines = []

    def open_portal(peer: str = "203.0.113.5", run: bool = False, **changes: Any) -> TestClient:
        app = create_app(sqlite_settings.model_copy(update=changes))
        engines.append(app.state.desk)
        if run:
            small_run(app.state.desk.engine, sqlite_settings, tmp_path / "release")
        return TestClient(app, raise_server_exceptions=False, client=(peer, 40_000))

    yield open_portal
    for desk in engines:
        desk.close()
