"""Rows for every table a database has, whatever the version of its schema: made from its columns, and good enough to be read.

What means something to the portal (manifests, versions, states) is given by name; everything else follows from the kind
of its column, with the values that databases like to bend: 64 bits, odd text, JSON of every kind, moments to the
microsecond, bytes that are no text.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, column, func, inspect, select, text
from sqlalchemy import table as sql_table

from portal.catalog.audit.chain import GENESIS, Change, link
from portal.catalog.loaded import insert_into, named_values
from portal.catalog.tables import Table, list_tables, loading_order

ODD = 'a\u0301 "quoted" \\ \U0001f9ea \u202e\n\t<script>'
MANIFEST = {"format": "llm360-portal/release/1", "training": {"last_step": 100}}
ORDER = {
    "position": 0, "first_step": 1, "last_step": 100, "chunks": [], "kind": "unknown", "file": None, "dtype": None,
    "rng": None, "seed": None, "draw": 0, "per_chunk": False, "steps_per_chunk": None, "start": 0,
    "confidence": "unknown", "assumption": "made",
}  # fmt: skip
LISTS = {"labels", "contains", "parents", "unsigned", "files", "runs"}
"""JSON columns that hold lists; `labels` of a worker is an object."""
MOMENT = datetime(2026, 11, 21, 3, 4, 5, 678901, UTC)


def make_rows(connection: Connection, tag: int, rows: int = 2) -> dict[str, int]:
    """Add ``rows`` rows to every table, different for each ``tag`` (from 0); how many there are now, by table."""
    tables = {table.name: table for table in list_tables(connection)}
    found = inspect(connection)
    for name in loading_order(connection):
        table = tables[name]
        parents = {key["constrained_columns"][0]: key["referred_table"] for key in found.get_foreign_keys(name)}
        statement = insert_into(connection, table)
        for number in range(tag * rows, tag * rows + rows):
            row = [_value(table, name, kind, number, parents.get(name)) for name, kind in table.columns]
            connection.execute(statement, [named_values(_bound(connection, table, row))])
        _move_sequence(connection, table)
    count = "SELECT count(*) FROM "
    return {name: connection.execute(text(f'{count}"{name}"')).scalar_one() for name in tables}


def _value(table: Table, name: str, kind: str, number: int, parent: str | None) -> Any:
    if parent is not None or (name, kind) == ("id", "int"):
        return number + 1
    meant = _meant(table.name, number)
    if name in meant:
        return meant[name]
    if kind == "text":
        return f"{name}-{number}"
    if kind == "int":
        return (1 << 53) - 1 - number if name in ("total_bytes", "tokens") else number
    if kind == "float":
        return (0.1, 5e-324, 1.7976931348623157e308)[number % 3]
    if kind == "json":
        return "[]" if name in LISTS and table.name != "worker" else json.dumps({"a": [1, None, True, 0.1], ODD: "ü"})
    if kind == "moment":
        return MOMENT + timedelta(microseconds=number)
    if kind == "bytes":
        return bytes(range(256)) * (number + 1)
    return number % 2 == 1


def _bound(connection: Connection, table: Table, row: list[Any]) -> list[Any]:
    """The row; of the history, bound to the entry before it, as the database lets none in that is not."""
    if table.name != "audit_entry":
        return row
    made = dict(zip(table.names, row, strict=True))
    newest = text("SELECT seq, hash FROM audit_entry ORDER BY seq DESC LIMIT 1")
    seq, prev = connection.execute(newest).first() or (0, GENESIS)
    change = Change(*(made[name] for name in ("at_ms", "actor", "action", "object", "run", "detail")))
    return list((made | {"seq": seq + 1, "prev": prev, "hash": link(prev, seq + 1, change)}).values())


def _meant(table: str, number: int) -> dict[str, Any]:
    """Columns that must mean something, by name."""
    run = f"run-{number}"
    manifest = json.dumps(MANIFEST | {"run": f"lab/{run}"})
    return {
        "run": {"org": "lab", "name": run, "version": 1, "revision": 0, "private_to": None},
        "release": {
            "version": 1, "manifest": manifest, "kind": "pretraining", "first_step": 0, "last_step": 100,
            "title": ODD, "license": "{}", "links": "{}", "model": "{}", "changes": "{}", "parent_run": None,
        },
        "stage": {"first_step": 1, "last_step": 100},
        "checkpoint": {"step": number, "labels": json.dumps([f"ckpt_{number}"]), "location": None},
        "chunk": {"position": 0, "format": "jsonl", "sources": "{}"},
        "data_order": {
            "first_step": 1, "last_step": 100, "kind": "unknown", "confidence": "unknown",
            "spec": json.dumps(ORDER),
        },
        "chunk_span": {"first_step": 1, "last_step": 100, "repeat": 0},
        "file": {"path": f"file-{number}.bin", "role": "weights", "size": 1 << 40, "sha256": f"{number:064x}"},
        "file_location": {"uri": f"https://example.org/{number}", "state": "verified"},
        "config": {"first_step": 1, "last_step": 100, "code": "{}"},
        "metric_series": {"name": "loss", "location": f"lab/{run}/g0.series#0", "x_kind": "step"},
        "evaluation": {"special": None, "step": number},
        "event": {"step": 7, "last_step": None, "chunk": None, "origin": "declared", "kind": "note"},
        "finding": {"severity": "warning", "state": "open", "code": "made", "step": None, "message": ODD},
        "api_token": {"role": "reader", "organisation": None, "revoked_at": None, "issuer": None, "maker_id": None},
        "job": {
            "kind": "resume", "state": "failed", "run": f"lab/{run}", "version": 1, "lease_until_ms": None,
            "spec": "{}", "worker_id": None, "verdict": None, "derived_run": None, "needs": "",
        },
        "job_attempt": {"outcome": "failed", "worker_id": None},
        "job_event": {"kind": "note", "data": json.dumps({"text": "made"})},
        "job_metric": {"special": None},
        "job_output": {"kind": "final"},
        "audit_head": {"envelope": "{}"},
        "worker": {"token_id": None, "labels": "{}", "trainer": "{}", "machine": "{}"},
    }.get(table, {})  # fmt: skip


def _move_sequence(connection: Connection, table: Table) -> None:
    """Ids were given; the database must not give them again."""
    if connection.dialect.name == "postgresql" and table.key == ("id",):
        sequence = func.pg_get_serial_sequence(table.name, "id")
        highest = select(func.max(column("id"))).select_from(sql_table(table.name)).scalar_subquery()
        connection.execute(select(func.setval(sequence, highest)))
