"""What a first recording of a run left behind, put back into the empty databases of later tests."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import SQLModel

from portal.catalog import tables as _tables  # noqa: F401 - the tables are known once their module is there


@dataclass(frozen=True)
class Snapshot:
    """Rows of every table as the database's own driver tells them, and the files that they speak of."""

    rows: Mapping[str, tuple[Sequence[str], Any]]
    """Table -> (columns, its rows; for PostgreSQL the text of a COPY)."""
    counters: Mapping[str, int]
    """PostgreSQL's sequences and how far they came."""
    words: Mapping[str, str]
    """What is another word elsewhere, folders and what is computed of them, by what it is."""
    files: Mapping[str, tuple[bytes, int]]
    """Path below the folder -> (bytes, time of change in ns)."""
    stored: Mapping[str, tuple[bytes, int]]
    """The same of the portal's own store."""


def is_untouched(engine: Engine) -> bool:
    """Whether nothing was recorded yet: every change leaves an entry."""
    with engine.connect() as connection:
        return not connection.exec_driver_sql("SELECT count(*) FROM audit_entry").scalar_one()


def take_snapshot(engine: Engine, folder: Path, store: Path, words: Mapping[str, str]) -> Snapshot:
    """All that lies in the database, below ``folder`` and in the portal's store."""
    rows: dict[str, tuple[Sequence[str], Any]] = {}
    counters: dict[str, int] = {}
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        for table in SQLModel.metadata.sorted_tables:
            columns = [column.name for column in table.columns]
            named = ", ".join(f'"{name}"' for name in columns)
            if engine.dialect.name == "sqlite":
                found: Any = cursor.execute(f'SELECT {named} FROM "{table.name}"').fetchall()  # noqa: S608
            else:
                with cursor.copy(f'COPY "{table.name}" ({named}) TO STDOUT') as copy:
                    found = b"".join(bytes(part) for part in copy)
            if found:
                rows[table.name] = columns, found
        if engine.dialect.name != "sqlite":
            cursor.execute("SELECT sequencename, last_value FROM pg_sequences WHERE last_value IS NOT NULL")
            counters = dict(cursor.fetchall())
        cursor.close()
    return Snapshot(rows, counters, words, _read(folder), _read(store))


def put_back(snapshot: Snapshot, engine: Engine, folder: Path, store: Path, words: Mapping[str, str]) -> None:
    """The same rows and files in another database and other folders."""
    elsewhere = {old: words[name] for name, old in snapshot.words.items()}
    _write(folder, snapshot.files)
    _write(store, snapshot.stored)
    with engine.begin() as connection:
        cursor = connection.connection.cursor()
        for table, (columns, found) in snapshot.rows.items():
            # The history's hashes are over every word of it.
            other = {} if table == "audit_entry" else elsewhere
            named = ", ".join(f'"{name}"' for name in columns)
            if engine.dialect.name == "sqlite":
                marks = ", ".join("?" * len(columns))
                told = [tuple(_other(value, other) for value in row) for row in found]
                cursor.executemany(f'INSERT INTO "{table}" ({named}) VALUES ({marks})', told)  # noqa: S608
            else:
                with cursor.copy(f'COPY "{table}" ({named}) FROM STDIN') as copy:
                    copy.write(_other(found.decode(), other))
        if snapshot.counters:
            cursor.execute("SELECT " + ", ".join(f"setval('{name}', {at})" for name, at in snapshot.counters.items()))
        cursor.close()


def _other(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for old, new in words.items():
            value = value.replace(old, new)
    return value


def _read(folder: Path) -> dict[str, tuple[bytes, int]]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def _write(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    for name, (body, changed_ns) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        os.utime(path, ns=(changed_ns, changed_ns))
