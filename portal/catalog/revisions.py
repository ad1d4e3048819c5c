"""When the catalog last changed: one small number that kept answers are checked against."""

from __future__ import annotations

import sqlite3
import threading
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, event, update
from sqlmodel import Session, col, select

from portal.models import Release, Run

Stamp = tuple[int, int, int]
"""Runs, highest run id, and the sum of versions and revisions: equal stamps mean equal answers."""


def bump_revision(session: Session, release_id: int) -> None:
    """Say that something about a release changed without a new version (findings, file states)."""
    owner = select(Release.run_id).where(col(Release.id) == release_id).scalar_subquery()
    session.execute(update(Run).where(col(Run.id) == owner).values(revision=col(Run.revision) + 1))


def read_stamp(session: Session) -> Stamp:
    """The catalog's stamp as this session sees it; one query over the small run table."""
    row = session.connection().exec_driver_sql(_STAMP).one()
    return int(row[0]), int(row[1]), int(row[2])


class CatalogClock:
    """Tells in microseconds whether the catalog may have changed since it was last asked.

    SQLite counts commits of other connections (`PRAGMA data_version`), so a connection that
    never writes sees every commit. Elsewhere the stamp itself has to be queried.
    """

    def __init__(self, engine: Engine) -> None:
        self.local = engine.dialect.name == "sqlite"
        """Whether `stamp` answers without a round trip to a server."""
        self._database = engine.url.database or ":memory:"
        self._lock = threading.Lock()
        self._ticks: sqlite3.Connection | None = None
        self._known: tuple[int, Stamp] | None = None
        event.listen(engine, "engine_disposed", self._close)

    def stamp(self, session: Session) -> Stamp:
        """The stamp of what is committed now; a query only when something changed since the last call."""
        return self.local_stamp() if self.local else read_stamp(session)

    def local_stamp(self) -> Stamp:
        """The same for an embedded database, without a session."""
        with self._lock:
            if self._ticks is None:
                self._ticks = sqlite3.connect(self._database, timeout=10, isolation_level=None, check_same_thread=False)
            tick = int(self._ticks.execute("PRAGMA data_version").fetchone()[0])
            if self._known is None or self._known[0] != tick:
                # Asked of the same connection and after the tick: the session's own snapshot may be older.
                row = self._ticks.execute(_STAMP).fetchone()
                self._known = (tick, (int(row[0]), int(row[1]), int(row[2])))
            return self._known[1]

    def _close(self, _engine: Engine) -> None:
        with self._lock:
            if self._ticks is not None:
                self._ticks.close()
            self._ticks = self._known = None


_STAMP = "SELECT count(*), coalesce(max(id), 0), coalesce(sum(version + revision), 0) FROM run"
_clocks: WeakKeyDictionary[Engine, CatalogClock] = WeakKeyDictionary()
_clocks_lock = threading.Lock()


def clock_of(engine: Engine) -> CatalogClock:
    """The one clock of an engine."""
    with _clocks_lock:
        if engine not in _clocks:
            _clocks[engine] = CatalogClock(engine)
        return _clocks[engine]
