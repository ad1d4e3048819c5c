"""Statements of SQLite that take too long are given up, as PostgreSQL's own timeout does it there.

SQLite asks back after every `OPCODES` steps of its machine. What counts is the time spent inside SQLite: rows that are
fetched one by one while somebody slow reads them do not use up a statement's time in between.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OPCODES = 100_000
"""A few milliseconds of work; statements with fewer steps, nearly all, are never interrupted by the question."""


class TimedConnection(sqlite3.Connection):
    """A connection whose statements may take `limit_s` seconds; 0: any time. Then they raise OperationalError
    (SQLITE_INTERRUPT), and what the transaction has written is undone."""

    limit_s: float = 0
    _spent = 0.0
    _since: float | None = None

    def keep_time(self, limit_s: float) -> None:
        """Limit what is executed from now on."""
        self.limit_s = limit_s
        self.set_progress_handler(self._is_over, OPCODES)

    def cursor(self, factory: Any = None) -> Any:
        """One that keeps the time."""
        return super().cursor(factory or _TimedCursor)

    def begin(self, anew: bool) -> None:
        """SQLite works from now on, for a statement that is new or for its next rows."""
        if anew:
            self._spent = 0.0
        self._since = time.monotonic()

    def end(self) -> None:
        """It has answered."""
        if self._since is not None:
            self._spent += time.monotonic() - self._since
            self._since = None

    def _is_over(self) -> bool:
        # Of many rows written by one call each is a statement of its own, so nothing is counted there.
        if self._since is None or not self.limit_s:
            return False
        return self._spent + time.monotonic() - self._since > self.limit_s


class _TimedCursor(sqlite3.Cursor):
    """Tells its connection when SQLite works."""

    connection: TimedConnection

    def execute(self, *args: Any) -> Any:
        self.connection.begin(True)
        try:
            return super().execute(*args)
        finally:
            self.connection.end()

    def fetchone(self) -> Any:
        self.connection.begin(False)
        try:
            return super().fetchone()
        finally:
            self.connection.end()

    def fetchmany(self, *args: Any) -> Any:
        self.connection.begin(False)
        try:
            return super().fetchmany(*args)
        finally:
            self.connection.end()

    def fetchall(self) -> Any:
        self.connection.begin(False)
        try:
            return super().fetchall()
        finally:
            self.connection.end()


@contextmanager
def any_time(connection: Any) -> Iterator[None]:
    """Let statements of this connection of the driver take as long as they do, until the block ends."""
    limit_s = getattr(connection, "limit_s", 0)
    if limit_s:
        connection.limit_s = 0
    try:
        yield
    finally:
        if limit_s:
            connection.limit_s = limit_s
