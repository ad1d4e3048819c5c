"""A small run, recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from portal.database import open_session
from portal.settings import Settings
from tests.builders import SmallRun, small_run


@pytest.fixture
def small(engine: Engine, settings: Settings, tmp_path: Path) -> SmallRun:
    return small_run(engine, settings, tmp_path / "release")


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with open_session(engine) as session:
        yield session
