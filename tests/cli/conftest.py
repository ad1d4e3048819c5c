"""A local catalog with a small run in it, for commands that are called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from portal.cli import main
from portal.database import create_database_engine
from portal.settings import Settings
from tests.builders import SMALL, SmallRun, small_run


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Portal = Callable[..., Said]


@pytest.fixture
def portal(capsys: pytest.CaptureFixture[str]) -> Portal:
    """Call a command: ``portal("at", "lab/small", "5")``."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@pytest.fixture
def data(sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty local catalog, set as PORTAL_DATA."""
    monkeypatch.setenv("PORTAL_DATA", str(sqlite_settings.data))
    return sqlite_settings.data


@pytest.fixture
def small(data: Path, sqlite_settings: Settings, tmp_path: Path) -> SmallRun:
    """The small run in the local catalog."""
    engine = create_database_engine(sqlite_settings)
    try:
        return small_run(engine, sqlite_settings, tmp_path / "release")
    finally:
        engine.dispose()


@pytest.fixture
def release(small: SmallRun) -> Path:
    """The small run's folder with a manifest, under a name that is not published yet."""
    (small.folder / "release.json").write_text(json.dumps(SMALL | {"run": "lab/fresh"}))
    return small.folder
