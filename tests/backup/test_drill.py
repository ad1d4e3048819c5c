"""The drill: a portal that is written to is backed up, lost, and restored elsewhere; nothing of it is another."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from portal.catalog.audit.verifying import load_keys, verify_history
from portal.database import create_database_engine, open_session
from portal.errors import Conflict
from portal.exchange.backup.make import make_backup
from portal.exchange.backup.places import open_place
from portal.exchange.backup.restore import restore_backup
from portal.exchange.backup.verify import verify_backups
from portal.settings import Settings
from tests.backup.portals import answers_of, blobs_of, publish_all, publish_one, rows_of
from tests.exchange.releases import write_release
from tests.postgres import PostgresServer


@pytest.fixture(params=["same", "other"])
def elsewhere(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Settings]:
    """Settings over nothing at all: an empty folder and an empty database, of the same kind or the other."""
    data, embedded = tmp_path / "elsewhere", settings.resolved_database_url.startswith("sqlite")
    if embedded == (request.param == "same"):
        yield Settings(data=data)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database(f"restored_{uuid4().hex}")
    try:
        yield Settings(data=data, database_url=server.url(name))
    finally:
        server.drop_database(name)


@pytest.fixture
def into(elsewhere: Settings) -> Iterator[Engine]:
    """An engine on the empty database."""
    engine = create_database_engine(elsewhere)
    yield engine
    engine.dispose()


def test_nothing_is_another_after_it_was_lost(
    settings: Settings, engine: Engine, elsewhere: Settings, into: Engine, tmp_path: Path
) -> None:
    runs = publish_all(settings, engine, tmp_path, 2)
    place, late = str(tmp_path / "backups"), write_release(tmp_path / "late", "lab/late")
    done = threading.Event()
    writer = threading.Thread(target=_write_on, args=(settings, late, done))
    writer.start()
    try:
        during = make_backup(engine, settings, place)
    finally:
        done.set()
        writer.join()
    assert (during.lost, during.elsewhere) == ([], 0)
    assert verify_backups(open_place(place, settings), place).faults == []
    # Now that nobody writes, the same again: what was there is not copied again, and can be compared.
    again = make_backup(engine, settings, place)
    assert again.copied < during.copied
    rows, blobs, answers = rows_of(settings), blobs_of(settings), answers_of(settings, runs)
    assert sum(status == 200 for status, _ in answers.values()) > 60
    guards = guards_of(engine)
    engine.dispose()
    shutil.rmtree(settings.data)
    report = restore_backup(into, elsewhere, place)
    assert (report.id, report.lost, report.upgraded_to) == (again.id, [], None)
    assert report.tables == again.tables
    assert rows_of(elsewhere) == rows
    assert blobs_of(elsewhere) == blobs == {name: name for name in blobs}
    assert answers_of(elsewhere, runs) == answers
    if into.dialect.name == engine.dialect.name:
        assert guards_of(into) == guards
    assert len(guards_of(into)) > 1
    with open_session(into) as session:
        history = verify_history(session, load_keys(session))
    assert history.broken is None
    assert history.entries >= 3
    _goes_on(elsewhere, into, tmp_path)


def test_a_portal_that_is_not_empty_is_left_alone(sqlite_settings: Settings, tmp_path: Path) -> None:
    engine = create_database_engine(sqlite_settings)
    publish_all(sqlite_settings, engine, tmp_path)
    place = str(tmp_path / "backups")
    make_backup(engine, sqlite_settings, place)
    before = rows_of(sqlite_settings), blobs_of(sqlite_settings)
    with pytest.raises(Conflict, match="is not empty"):
        restore_backup(engine, sqlite_settings, place)
    assert (rows_of(sqlite_settings), blobs_of(sqlite_settings)) == before
    other = Settings(data=tmp_path / "other", storage_url=str(sqlite_settings.data / "store" / "blobs"))
    beside = create_database_engine(other)
    with pytest.raises(Conflict, match="its own store holds"):
        restore_backup(beside, other, place)
    engine.dispose()
    beside.dispose()


def _write_on(settings: Settings, release: Path, done: threading.Event) -> None:
    """Publish and change while the backup is made."""
    engine = create_database_engine(settings)
    publish_one(settings, engine, release)
    number = 0
    while not done.wait(0.005) and number < 500:
        number += 1
        with open_session(engine) as session:
            session.execute(text("UPDATE run SET revision = revision + 1"))
            session.commit()
    engine.dispose()


def _goes_on(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    """The database hands out new ids, and more can be published."""
    publish_one(settings, engine, write_release(tmp_path / "next", "lab/next"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version FROM run WHERE name = 'next'")).scalar() == 1


def guards_of(engine: Engine) -> set[str]:
    """Names of its triggers."""
    names = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }
    with engine.connect() as connection:
        return set(connection.execute(text(names[engine.dialect.name])).scalars())
