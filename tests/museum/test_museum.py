"""Every exhibit gets its verdict: refused with exactly its faults, or published with exactly its findings."""

from __future__ import annotations

from pathlib import Path

import pytest

from portal.database import create_database_engine
from portal.settings import Settings
from tests.museum import checkpoints, data, numbers, orders
from tests.museum.exhibit import EXHIBITS, Exhibit, Room

ROOMS = (data, orders, checkpoints, numbers)


def test_the_museum_is_large_and_no_exhibit_stands_twice() -> None:
    assert {e.breaks.__module__ for e in EXHIBITS} == {room.__name__ for room in ROOMS}
    assert len(EXHIBITS) >= 40
    assert len({e.name for e in EXHIBITS}) == len(EXHIBITS)


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=[e.name for e in EXHIBITS])
def test_an_exhibit_gets_its_verdict(exhibit: Exhibit, sqlite_settings: Settings, tmp_path: Path) -> None:
    engine = create_database_engine(sqlite_settings)
    try:
        assert Room(engine, sqlite_settings).judge(exhibit, tmp_path / "release") == []
    finally:
        engine.dispose()


def test_a_sound_release_has_no_findings(sqlite_settings: Settings, tmp_path: Path) -> None:
    """Positive control: the release that exhibits break is right before they do."""
    from tests.museum.exhibit import published

    engine = create_database_engine(sqlite_settings)
    sound = Exhibit("sound", "Nothing.", lambda _run: None, published(), {"verify deep": "sound"})
    try:
        assert Room(engine, sqlite_settings).judge(sound, tmp_path / "release") == []
    finally:
        engine.dispose()
