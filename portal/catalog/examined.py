"""What `portal doctor` asks the database: how it is set, how old its schema is, and how the portal has been lately.

Nothing here waits for long, writes, or makes a database that is not there.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, func, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import DatabaseError as DatabaseFault
from sqlmodel import Session, col

from portal.catalog.jobs.rules import LIVE, QUEUED
from portal.catalog.tables import VERSIONS
from portal.database import Engine
from portal.errors import Unavailable
from portal.models import File, FileLocation, Job, Worker
from portal.settings import Settings

PATIENCE_S = 2
"""Seconds for a connection, and for a statement."""


@dataclass(frozen=True)
class DatabaseFacts:
    """How the database is set."""

    dialect: str
    version: str
    revision: str | None
    """Of its schema; None: it has none yet."""
    settings: dict[str, str]
    """By the database's own names."""
    size: int
    skew_s: float
    """The database's clock minus this machine's; 0 for an embedded one."""


@dataclass(frozen=True)
class Activity:
    """How the portal has been lately; moments in seconds since 1970."""

    workers: int
    silent: list[str]
    """Names of those not heard of for a lease and not draining."""
    newest_worker: float | None
    stuck: list[int]
    """Jobs whose lease ran out long ago, and which nobody took away."""
    waiting: list[int]
    """Jobs that have been queued for long."""
    oldest_check: float | None
    newest_check: float | None
    never_checked: int
    """Places of files that were never looked at."""


@dataclass(frozen=True)
class KnownFile:
    """A file of this machine that the portal hands out."""

    sha256: str
    name: str
    size: int


@contextmanager
def open_to_look(settings: Settings) -> Iterator[Engine]:
    """The database, asked with little patience. Unavailable says why it cannot be reached.

    An embedded one is opened for reading alone, and not made where there is none.
    """
    try:
        url = make_url(settings.resolved_database_url)
        engine = _embedded(url) if url.get_backend_name() == "sqlite" else _shared(url)
    except (ArgumentError, ImportError, ValueError) as error:
        raise Unavailable(f"The database's address cannot be used: {error}.", "Correct PORTAL_DATABASE_URL.") from None
    try:
        yield engine
    except DatabaseFault as error:
        told = str(error.orig).strip().split("\n")[0].rstrip(".")
        raise Unavailable(
            f"The database cannot be used: {told}.", "Check that it runs, and PORTAL_DATABASE_URL."
        ) from None
    finally:
        engine.dispose()


def read_database_facts(engine: Engine) -> DatabaseFacts:
    """How it is set; raises what the database says."""
    with engine.connect() as connection:
        revision = None
        if inspect(connection).has_table(VERSIONS):
            revision = connection.execute(text(f"SELECT version_num FROM {VERSIONS}")).scalar()  # noqa: S608
        return (_of_sqlite if engine.dialect.name == "sqlite" else _of_postgres)(connection, revision)


def read_activity(engine: Engine, settings: Settings, stuck_s: float, waiting_s: float) -> Activity:
    """How the portal has been; raises what the database says."""
    now = time.time_ns() // 1_000_000
    lease = int(settings.lease_seconds * 1000)
    with Session(engine) as session:
        workers = session.execute(select(col(Worker.name), col(Worker.seen_ms), col(Worker.draining))).all()
        seen = [ms for _, ms, _ in workers]
        late = col(Job.state).in_(LIVE) & (col(Job.lease_until_ms) < now - int(stuck_s * 1000))
        long = (col(Job.state) == QUEUED) & (col(Job.created_ms) < now - int(waiting_s * 1000))
        oldest, newest = session.execute(
            select(func.min(col(FileLocation.checked_at)), func.max(col(FileLocation.checked_at)))
        ).one()
        never = select(func.count()).select_from(FileLocation).where(col(FileLocation.checked_at).is_(None))
        return Activity(
            len(workers),
            sorted(name for name, ms, draining in workers if ms < now - lease and not draining),
            max(seen) / 1000 if seen else None,
            list(session.execute(select(col(Job.id)).where(late).limit(20)).scalars()),
            list(session.execute(select(col(Job.id)).where(long).limit(20)).scalars()),
            _seconds(oldest),
            _seconds(newest),
            session.execute(never).scalar_one(),
        )


def find_local_file(engine: Engine) -> KnownFile | None:
    """Any small file of this machine that the portal hands out; None where there is none."""
    statement = (
        select(col(File.sha256), col(File.path), col(File.size))
        .join(FileLocation, col(FileLocation.file_id) == col(File.id))
        .where(col(FileLocation.uri).like("file://%"), col(File.sha256).is_not(None), col(File.size) > 0)
        .limit(1)
    )
    with Session(engine) as session:
        found = session.execute(statement).first()
    return KnownFile(found[0], found[1].rpartition("/")[2], found[2]) if found else None


def _embedded(url: URL) -> Engine:
    path = Path(url.database or "")
    if not path.is_file():
        raise Unavailable(f"There is no database yet: {path} does not exist.", "`portal migrate` makes it.")

    def connect() -> Any:
        return sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True, timeout=PATIENCE_S, check_same_thread=False)

    return create_engine("sqlite://", creator=connect)


def _shared(url: URL) -> Engine:
    patience = {"connect_timeout": PATIENCE_S, "options": f"-c statement_timeout={PATIENCE_S * 1000}"}
    return create_engine(url, connect_args=patience)


def _of_sqlite(connection: Connection, revision: str | None) -> DatabaseFacts:
    def ask(name: str) -> str:
        return str(connection.exec_driver_sql(f"PRAGMA {name}").scalar())

    path = str(connection.exec_driver_sql("PRAGMA database_list").first()[2])  # type: ignore[index]
    told = {"journal_mode": ask("journal_mode"), "path": path}
    size = int(ask("page_count")) * int(ask("page_size"))
    return DatabaseFacts("sqlite", sqlite3.sqlite_version, revision, told, size, 0.0)


def _of_postgres(connection: Connection, revision: str | None) -> DatabaseFacts:
    names = ("server_version", "fsync", "synchronous_commit", "server_encoding", "max_connections",
             "default_transaction_isolation", "full_page_writes")  # fmt: skip
    told = {name: str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in names}
    now, size = connection.exec_driver_sql(
        "SELECT extract(epoch FROM clock_timestamp())::float8, pg_database_size(current_database())"
    ).one()
    return DatabaseFacts("postgresql", told["server_version"], revision, told, int(size), float(now) - time.time())


def _seconds(at: datetime | None) -> float | None:
    """SQLite gives moments back without their zone."""
    if at is None:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def check_pages(path: Path) -> str:
    """What SQLite's quick check says of a database that nobody writes to; ``ok``, or the first fault."""
    with closing(sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True, timeout=PATIENCE_S)) as connection:
        return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
