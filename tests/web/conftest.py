"""A portal over a small run, asked without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import SmallRun, small_run


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    app = create_app(settings)
    yield app
    app.state.desk.close()


@pytest.fixture
def http(app: FastAPI) -> TestClient:
    """Asks the portal as it is, and follows no redirect."""
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def small(app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path) -> SmallRun:
    return small_run(engine, settings, tmp_path / "release")


@pytest.fixture
def client(app: FastAPI, small: SmallRun) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)
