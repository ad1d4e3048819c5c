"""Engine, sessions and the switches that make SQLite safe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import DatabaseError as DatabaseFault
from sqlalchemy.exc import OperationalError as DatabaseDown
from sqlmodel import Session

from portal.errors import Unavailable, UsageError
from portal.settings import Settings

__all__ = [
    "DatabaseDown",
    "DatabaseFault",
    "Engine",
    "check_schema",
    "create_database_engine",
    "migrate",
    "migrations_folder",
    "open_session",
]


def create_database_engine(settings: Settings) -> Engine:
    """An engine for the configured database; SQLite gets WAL, FULL and enforced foreign keys.

    Raises UsageError for an address that names no database this version can speak to.
    """
    try:
        return _create_engine(make_url(settings.resolved_database_url))
    except (ArgumentError, ImportError) as error:
        raise UsageError(
            f"The database's address cannot be used: {error}.",
            "Set PORTAL_DATABASE_URL to postgresql+psycopg://user@host/name or sqlite:////path/to/file.",
        ) from None


@contextmanager
def open_session(engine: Engine) -> Iterator[Session]:
    """A session that is closed afterwards; the caller commits."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


def migrate(engine: Engine) -> None:
    """Bring the schema up to date."""
    with engine.begin() as connection:
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_schema(engine: Engine) -> None:
    """Raise Unavailable when the schema is not the one this version needs."""
    head = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current != head:
        engine.dispose()  # whoever is refused has no more use for it
        raise Unavailable(
            f"The database is at schema {current or 'none'}, this version needs {head}.", "Run `portal migrate` first."
        )


def migrations_folder() -> Path:
    """Alembic's scripts: inside the installed package, or at the top of a checkout."""
    inside = Path(__file__).parent / "_migrations"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "migrations"


def _create_engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=8)
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 10})
    event.listen(engine, "connect", _set_sqlite_switches)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _alembic_config() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(migrations_folder()))
    return config


def _set_sqlite_switches(connection: Any, _record: object) -> None:
    # The driver must not open transactions on its own: `_begin_sqlite` does, so that DDL and
    # reads are transactional too.
    connection.isolation_level = None
    cursor = connection.cursor()
    for switch in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=10000",
        "trusted_schema=OFF",
    ):
        cursor.execute(f"PRAGMA {switch}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")
