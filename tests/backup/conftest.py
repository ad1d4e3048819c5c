"""A portal with everything in it, and a backup of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from portal.database import create_database_engine
from portal.settings import Settings
from portal.signing.keys import make_key
from tests.backup.portals import back_up, publish_all


@pytest.fixture
def portal(sqlite_settings: Settings, tmp_path: Path) -> Settings:
    """A portal with a run, a job and a token, that signs."""
    key = tmp_path / "portal.key"
    make_key(key)
    settings = sqlite_settings.model_copy(update={"signing_key": key})
    engine = create_database_engine(settings)
    publish_all(settings, engine, tmp_path)
    engine.dispose()
    return settings


@pytest.fixture
def place(portal: Settings, tmp_path: Path) -> Path:
    """A backup of it."""
    back_up(portal, tmp_path / "backups")
    return tmp_path / "backups"
