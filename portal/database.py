"""Engine, sessions and the switches that make SQLite safe."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import DatabaseError as DatabaseFault
from sqlalchemy.exc import OperationalError as DatabaseDown
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool
from sqlmodel import Session

from portal.errors import Unavailable, UsageError
from portal.settings import Settings
from portal.statements import TimedConnection, any_time

if TYPE_CHECKING:
    from alembic.config import Config as AlembicConfig

__all__ = [
    "DatabaseDown",
    "DatabaseFault",
    "Engine",
    "check_schema",
    "create_database_engine",
    "known_revisions",
    "migrate",
    "migrate_over",
    "migrations_folder",
    "open_session",
    "pool_numbers",
    "was_given_up",
]

IDLE_S = 15.0
"""Seconds after which PostgreSQL ends a transaction in which nothing happens."""
BUSY_S = 10.0
"""Seconds that SQLite waits for another writer."""
POOL_S = 5.0
"""Seconds that are waited for a free connection."""
WORK_STATEMENT_S = 60.0
"""Seconds that a statement of publishing, of jobs or of fixity may take."""


def create_database_engine(settings: Settings, statement_s: float = 0) -> Engine:
    """An engine for the configured database; SQLite gets WAL, FULL and enforced foreign keys.

    With ``statement_s`` a statement is given up after so many seconds, and by PostgreSQL a transaction in which nothing
    happens after `IDLE_S`; both arrive as `DatabaseDown`, as does a pool without a free connection.
    Raises UsageError for an address that names no database this version can speak to.
    """
    try:
        return _create_engine(make_url(settings.resolved_database_url), statement_s)
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


def let_go(session: Session) -> None:
    """Give a reading session's connection back before something slow is waited for; its next question takes another.

    Nothing happens inside a transaction that writes (`recording`), which must stay whole.
    """
    if not session.info.get("writing"):
        session.close()


def migrate(engine: Engine) -> None:
    """Bring the schema up to date."""
    if _is_current(engine):
        return
    with engine.begin() as connection, any_time(connection.connection.driver_connection):
        migrate_over(connection)


def migrate_over(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to a revision inside a transaction of the caller's: up, or with ``base`` down to nothing."""
    from alembic import command  # noqa: PLC0415 - half a second that a schema that is up to date does not need

    config = _alembic_config()
    config.attributes["connection"] = connection
    (command.downgrade if revision == "base" else command.upgrade)(config, revision)


def known_revisions() -> list[str]:
    """Revisions of the schema that this version knows, the newest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - as above

    return [script.revision for script in ScriptDirectory.from_config(_alembic_config()).walk_revisions()]


def check_schema(engine: Engine, dispose: bool = True) -> None:
    """Raise Unavailable when the schema is not the one this version needs; without ``dispose`` the engine stays of use."""
    if _is_current(engine):
        return
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - as above
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    head = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current != head:
        if dispose:
            engine.dispose()  # whoever is refused has no more use for it
        raise Unavailable(
            f"The database is at schema {current or 'none'}, this version needs {head}.", "Run `portal migrate` first."
        )


def migrations_folder() -> Path:
    """Alembic's scripts: inside the installed package, or at the top of a checkout."""
    inside = Path(__file__).parent / "_migrations"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "migrations"


def was_given_up(error: DatabaseFault) -> bool:
    """Whether a statement took too long."""
    given_up = getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
    return given_up or getattr(error.orig, "sqlstate", None) == "57014"


def pool_numbers(engine: Engine) -> tuple[int, int]:
    """(connections that are open, those in use) of an engine's pool."""
    pool = engine.pool
    if not isinstance(pool, QueuePool):
        return 0, 0
    return pool.checkedin() + pool.checkedout(), pool.checkedout()


class _Pool(QueuePool):
    """Says that no connection came free in the words in which a database says that it does not answer."""

    def _do_get(self) -> Any:
        try:
            return super()._do_get()
        except PoolTimeout as error:
            raise DatabaseDown("waiting for a free connection", None, error) from error


def _create_engine(url: URL, statement_s: float) -> Engine:
    # What a statement was given may be a secret or somebody's text, and errors end in the log.
    shared: dict[str, Any] = {
        "hide_parameters": True,
        "poolclass": _Pool,
        "pool_size": 8,
        "max_overflow": 8,
        "pool_timeout": POOL_S,
    }
    if url.get_backend_name() != "sqlite":
        limits = {"statement_timeout": statement_s, "idle_in_transaction_session_timeout": IDLE_S}
        options = " ".join(f"-c {name}={seconds * 1000:.0f}" for name, seconds in limits.items())
        if not statement_s or "options" in url.query:
            return create_engine(url, pool_pre_ping=True, **shared)
        return create_engine(url, pool_pre_ping=True, connect_args={"options": options}, **shared)
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"check_same_thread": False, "timeout": BUSY_S}
    if url.database in (None, "", ":memory:"):
        del shared["poolclass"], shared["pool_size"], shared["max_overflow"], shared["pool_timeout"]
    if statement_s:
        told["factory"] = TimedConnection
    engine = create_engine(url, connect_args=told, **shared)
    event.listen(engine, "connect", _set_sqlite_switches)
    if statement_s:
        event.listen(engine, "connect", lambda connection, _record: connection.keep_time(statement_s))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _is_current(engine: Engine) -> bool:
    """Whether the schema is the newest one; False also where only Alembic itself could tell."""
    newest = _newest_revision()
    with engine.connect() as connection:
        if newest is None or not inspect(connection).has_table("alembic_version"):
            return False
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all() == [newest]


def _newest_revision() -> str | None:
    """The one revision that no other one follows; None where the scripts do not form a plain line."""
    texts = [path.read_text("utf-8") for path in (migrations_folder() / "versions").glob("*.py")]
    revisions = {found[1] for text in texts if (found := _REVISION.search(text))}
    followed = {found[1] for text in texts if (found := _FOLLOWED.search(text))}
    newest = revisions - followed
    return newest.pop() if len(newest) == 1 and len(revisions) == len(texts) else None


_REVISION = re.compile(r'^revision(?:: str)? = "([^"]+)"', re.MULTILINE)
_FOLLOWED = re.compile(r'^down_revision(?:: [^=]+)? = "([^"]+)"', re.MULTILINE)


def _alembic_config() -> AlembicConfig:
    from alembic.config import Config as AlembicConfig  # noqa: PLC0415 - as above

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
        f"busy_timeout={BUSY_S * 1000:.0f}",
        "trusted_schema=OFF",
    ):
        cursor.execute(f"PRAGMA {switch}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")
