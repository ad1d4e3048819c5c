"""Every table as the database itself has it, whatever version its schema is of: rows as lines that both databases agree on.

A line is a JSON array with the values of one row in the order of `Table.columns`. Numbers are exact on both: whole ones
have 64 bits, others are written as text that reads back as the same bits, NaN and infinities among them; moments are in
UTC; JSON columns keep their text. So equal rows are equal lines, and a digest over the lines of a table in the order of
its key is the same on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    DateTime,
    Select,
    Text,
    cast,
    collate,
    column,
    inspect,
    select,
    table,
    text,
    type_coerce,
)
from sqlalchemy import types as kinds

from portal.database import Engine
from portal.errors import DataFault, IntegrityError

AT_ONCE = 2_000
"""Rows fetched at a time."""
VERSIONS = "alembic_version"
Rename = Callable[[str], str]
"""From the place of a file here to one that means the same elsewhere."""

_KINDS: tuple[tuple[type[Any], str], ...] = (
    (kinds.Boolean, "bool"),
    (kinds.JSON, "json"),
    (kinds.DateTime, "moment"),
    (kinds.LargeBinary, "bytes"),
    (kinds.Float, "float"),
    (kinds.Integer, "int"),
    (kinds.String, "text"),
)


@dataclass(frozen=True)
class Table:
    """A table by its columns."""

    name: str
    columns: tuple[tuple[str, str], ...]
    """Name and kind: int, float, text, json, moment, bytes or bool."""
    key: tuple[str, ...]
    """Its primary key, which orders its rows."""

    @property
    def names(self) -> list[str]:
        """Names of its columns."""
        return [name for name, _ in self.columns]


@dataclass(frozen=True)
class Snapshot:
    """A database as it was at one moment, while others go on writing to it."""

    connection: Connection
    revision: str
    """Of its schema."""
    tables: tuple[Table, ...]
    """By name."""

    def lines(self, of: Table, rename: Rename | None = None) -> Iterator[bytes]:
        """Every row of a table as `read_lines` gives them."""
        return read_lines(self.connection, of, rename)

    def next_id(self, of: Table) -> int | None:
        """The id its next row gets; None where it has no ids of the database's making."""
        return _next_id(self.connection, of)


@contextmanager
def snapshot(engine: Engine) -> Iterator[Snapshot]:
    """The database at this moment, in one transaction that changes nothing and holds nobody up.

    IntegrityError where an embedded database is damaged, DataFault where a table is not understood.
    """
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            # Reading everything may take longer than any request may.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        else:
            _check_whole(connection)
        tables = list_tables(connection)
        revision = connection.execute(text(f"SELECT version_num FROM {VERSIONS}")).scalar_one()  # noqa: S608
        yield Snapshot(connection, revision, tables)
        connection.rollback()


def list_tables(connection: Connection) -> tuple[Table, ...]:
    """Every table but the one that holds the schema's version, by name."""
    found = inspect(connection)
    return tuple(_table(found, name) for name in sorted(found.get_table_names()) if name != VERSIONS)


def loading_order(connection: Connection) -> list[str]:
    """Names of the tables, each after those its rows refer to."""
    ordered = inspect(connection).get_sorted_table_and_fkc_names()
    return [name for name, _ in ordered if name is not None and name != VERSIONS]


def is_empty(connection: Connection, of: Table) -> bool:
    """Whether a table has no row."""
    return connection.execute(select(text("1")).select_from(table(of.name)).limit(1)).first() is None


def read_lines(connection: Connection, of: Table, rename: Rename | None = None) -> Iterator[bytes]:
    """Rows of a table as lines, by its key; ``rename`` is applied to the places of files."""
    writers = [_WRITERS.get(kind) for _, kind in of.columns]
    place = of.names.index("uri") if of.name == "file_location" and rename else None
    found = connection.execute(_select(connection, of).execution_options(stream_results=True, yield_per=AT_ONCE))
    for rows in found.partitions():
        for row in rows:
            values = [
                write(value) if write is not None and value is not None else value
                for write, value in zip(writers, row, strict=True)
            ]
            if place is not None and rename:
                values[place] = rename(values[place])
            yield orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)


def parse_line(of: Table, line: bytes) -> list[Any]:
    """The values of a row; DataFault for a line that is no row of this table."""
    try:
        values = orjson.loads(line)
        if len(values) != len(of.columns):
            raise ValueError
        return [_read(kind, value) for (_, kind), value in zip(of.columns, values, strict=True)]
    except (ValueError, TypeError) as error:
        raise DataFault(f"A line is no row of table {of.name}: {type(error).__name__}.", "") from None


def _read(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "float":
        return float(value)
    if kind == "moment":
        return datetime.fromisoformat(value)
    if kind == "bytes":
        return base64.b64decode(value, validate=True)
    wanted = {"int": int, "bool": bool}.get(kind, str)
    if type(value) is not wanted:
        raise ValueError
    return value


def _table(found: Any, name: str) -> Table:
    columns = tuple((c["name"], _kind(name, c["name"], c["type"])) for c in found.get_columns(name))
    key = tuple(found.get_pk_constraint(name)["constrained_columns"])
    if not key:
        raise DataFault(f"Table {name} has no primary key, so its rows have no order.", "Remove it if it is not ours.")
    return Table(name, columns, key)


def _kind(name: str, of: str, kind: Any) -> str:
    for known, told in _KINDS:
        if isinstance(kind, known):
            return told
    raise DataFault(
        f"Column {of} of table {name} is of a kind that cannot be backed up: {kind}.",
        "Keep tables that are not the portal's in a database of their own.",
    )


def _select(connection: Connection, of: Table) -> Select[Any]:
    on_postgres = connection.dialect.name == "postgresql"
    kind_of = dict(of.columns)
    wanted, order = [], []
    for name, kind in of.columns:
        if kind == "json":
            # Its text as it was written, unread.
            wanted.append(cast(column(name), Text).label(name) if on_postgres else _plain_text(name))
        elif kind == "moment":
            wanted.append(column(name, DateTime(timezone=True)))
        elif kind == "bool":
            wanted.append(column(name, kinds.Boolean()))
        else:
            wanted.append(column(name))
    for name in of.key:
        by = column(name, Text()) if kind_of[name] == "text" else column(name)
        # By bytes, as SQLite does, whatever the language of the database.
        order.append(collate(by, "C") if on_postgres and kind_of[name] == "text" else by)
    return select(*wanted).select_from(table(of.name)).order_by(*order)


def _plain_text(name: str) -> Any:
    return type_coerce(column(name), Text()).label(name)


def _next_id(connection: Connection, of: Table) -> int | None:
    if [(name, kind) for name, kind in of.columns if name in of.key] != [("id", "int")]:
        return None
    if connection.dialect.name != "postgresql":
        highest = connection.execute(text(f'SELECT max(id) FROM "{of.name}"')).scalar()  # noqa: S608 - reflected
        return int(highest or 0) + 1
    sequence = connection.execute(text("SELECT pg_get_serial_sequence(:name, 'id')"), {"name": of.name}).scalar()
    if sequence is None:
        return None
    last, called = connection.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()  # noqa: S608
    return int(last) + bool(called)


def _check_whole(connection: Connection) -> None:
    found: Sequence[str] = connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars().all()
    if list(found) != ["ok"]:
        raise IntegrityError(
            f"The embedded database is damaged: {found[0]}.",
            "Restore the last good backup, or save what can be read with `sqlite3 FILE .recover`.",
        )


def _moment(value: datetime) -> str:
    known = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return known.isoformat(timespec="microseconds")


_WRITERS: dict[str, Callable[[Any], Any]] = {
    "float": repr,
    "moment": _moment,
    "bytes": lambda value: base64.b64encode(value).decode(),
    # SQLite keeps JSON that is a number as one.
    "json": str,
}
