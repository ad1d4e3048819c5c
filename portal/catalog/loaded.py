"""Rows of a backup put into an empty database, all of them or none: one transaction makes the schema and fills it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    DateTime,
    Text,
    bindparam,
    cast,
    column,
    insert,
    inspect,
    table,
    text,
)
from sqlalchemy import types as kinds

from portal.catalog.tables import VERSIONS, Rename, Table, is_empty, list_tables, loading_order, parse_line, read_lines
from portal.database import Engine, migrate_over
from portal.errors import Conflict, DataFault

AT_ONCE = 1_000
_TYPES: dict[str, Any] = {
    "int": BigInteger(),
    "float": kinds.Float(53),
    "text": Text(),
    "json": Text(),
    "moment": DateTime(timezone=True),
    "bytes": kinds.LargeBinary(),
    "bool": kinds.Boolean(),
}


@dataclass(frozen=True)
class Loading:
    """An empty database of a backup's schema while it is filled."""

    connection: Connection
    tables: Mapping[str, Table]
    order: Sequence[str]
    """Tables, each after those its rows refer to."""

    def load(self, of: Table, lines: Iterable[bytes], rename: Rename) -> int:
        """Insert rows; the number of them. DataFault where they are not of this schema."""
        if self.tables.get(of.name) != of:
            raise DataFault(f"Table {of.name} of the backup is not the one that its schema makes.", _OTHER)
        # What the migrations themselves put there is not put there twice.
        known = set(read_lines(self.connection, of))
        statement, count = insert_into(self.connection, of), 0
        place = of.names.index("uri") if of.name == "file_location" else None
        rows = iter(lines)
        while batch := list(islice(rows, AT_ONCE)):
            values = [parse_line(of, line) for line in batch if line not in known]
            if place is not None:
                for row in values:
                    row[place] = rename(row[place])
            if values:
                self.connection.execute(statement, [named_values(row) for row in values])
            count += len(batch)
        return count

    def lines(self, of: Table, rename: Rename) -> Iterator[bytes]:
        """The rows that are there now, as `portal.catalog.tables.read_lines` gives them."""
        return read_lines(self.connection, of, rename)

    def set_next_id(self, of: Table, value: int | None) -> None:
        """Let the next row of a table have this id."""
        if value is None or self.connection.dialect.name != "postgresql":
            return
        sequence = self.connection.execute(text("SELECT pg_get_serial_sequence(:n, 'id')"), {"n": of.name}).scalar()
        if sequence is not None:
            self.connection.execute(text("SELECT setval(:s, :v, false)"), {"s": sequence, "v": value})


def check_empty(engine: Engine) -> None:
    """Conflict where the database holds a row of anything."""
    with engine.connect() as connection:
        full = [of.name for of in list_tables(connection) if not is_empty(connection, of)]
        connection.rollback()
    if full:
        shown = ", ".join(full[:3]) + (f" and {len(full) - 3} more tables" if len(full) > 3 else "")
        raise Conflict(
            f"The database to restore into is not empty: there are rows in {shown}. Nothing was changed.",
            "Name an empty database (PORTAL_DATABASE_URL) or an empty folder (PORTAL_DATA).",
        )


@contextmanager
def loading(engine: Engine, revision: str) -> Iterator[Loading]:
    """An empty database brought to the schema ``revision``; what the block does is committed whole, or not at all."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        if _revision(connection) != revision:
            if _revision(connection) is not None:
                # Migrated already, to another version than the backup's, and nothing in it.
                migrate_over(connection, "base")
            migrate_over(connection, revision)
        tables = {of.name: of for of in list_tables(connection)}
        yield Loading(connection, tables, loading_order(connection))


def insert_into(connection: Connection, of: Table) -> Any:
    """A statement that adds one row; its values as `named_values` names them."""
    into = table(of.name, *(column(name, _TYPES[kind]) for name, kind in of.columns))
    values: dict[str, Any] = {}
    for number, (name, kind) in enumerate(of.columns):
        value = bindparam(f"v{number}", type_=_TYPES[kind])
        values[name] = cast(value, JSON) if kind == "json" and connection.dialect.name == "postgresql" else value
    return insert(into).values(values)


def named_values(row: Sequence[Any]) -> dict[str, Any]:
    """The values of a row in the order of its columns, named for `insert_into`."""
    return {f"v{number}": value for number, value in enumerate(row)}


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSIONS):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSIONS}")).scalar()  # noqa: S608


_OTHER = "Restore it with the version of the portal that made it."
