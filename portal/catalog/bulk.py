"""Thousands of rows in one statement, column by column, as each database takes them fastest.

PostgreSQL gets one array per column; SQLite gets tuples through its driver, because handing every row
through the SQL toolkit as a mapping costs more than inserting it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ARRAY, Dialect, bindparam, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session

Columns = Mapping[str, Sequence[Any]]
"""Values by column, all of the same length; columns that are left out stay NULL."""


def insert_columns(session: Session, table: Any, columns: Columns, unless_known: str | None = None) -> None:
    """Insert rows given as columns of plain values (no JSON).

    With ``unless_known`` a row is left out whose value in that unique column is there already.
    """
    names = tuple(columns)
    if not columns[names[0]]:
        return
    connection = session.connection()
    dialect = connection.dialect
    if dialect.name == "sqlite":
        stored = [_stored(table.__table__.c[name].type, values, dialect) for name, values in columns.items()]
        statement = _sqlite_insert(table, names, unless_known)
        connection.exec_driver_sql(statement, list(zip(*stored, strict=True)))
        return
    connection.execute(_array_insert(table, names, unless_known), {name: list(columns[name]) for name in names})


def next_ids(session: Session, table: Any, count: int) -> Sequence[int]:
    """Ids for ``count`` new rows; nobody else is given them before this transaction ends."""
    connection, key = session.connection(), table.__table__.c.id
    if connection.dialect.name == "sqlite":
        # This transaction is the only writer, so the next ids are known.
        first = int(connection.execute(select(func.coalesce(func.max(key), 0))).scalar_one()) + 1
        return range(first, first + count)
    sequence = func.pg_get_serial_sequence(table.__tablename__, "id")
    taken = select(func.nextval(sequence)).select_from(func.generate_series(1, count).alias("numbers"))
    return sorted(int(number) for number in connection.execute(taken).scalars())


def _stored(kind: Any, values: Sequence[Any], dialect: Dialect) -> Sequence[Any]:
    """Values as the driver takes them; equal ones (a moment shared by thousands of rows) are converted once."""
    process = kind.dialect_impl(dialect).bind_processor(dialect)
    if process is None:
        return values
    known = {value: process(value) for value in set(values)}
    return [known[value] for value in values]


@lru_cache(maxsize=32)
def _sqlite_insert(table: Any, names: tuple[str, ...], unless_known: str | None) -> str:
    statement = sqlite.insert(table.__table__)
    if unless_known:
        statement = statement.on_conflict_do_nothing(index_elements=[unless_known])
    compiled = statement.compile(dialect=sqlite.dialect(), column_keys=list(names))
    assert compiled.positiontup == list(names)  # noqa: S101 - values would land in the wrong columns
    return str(compiled)


def _array_insert(table: Any, names: tuple[str, ...], unless_known: str | None) -> Any:
    kinds = table.__table__.c
    arrays = select(*(func.unnest(bindparam(name, type_=ARRAY(kinds[name].type))).label(name) for name in names))
    if unless_known is None:
        return insert(table.__table__).from_select(list(names), arrays)
    statement = postgresql.insert(table.__table__).from_select(list(names), arrays)
    return statement.on_conflict_do_nothing(index_elements=[unless_known])
