"""Upgrades with data in them: rows of every table of every earlier schema are intact under the newest one, and answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.audit.verifying import verify_history
from portal.catalog.tables import Table, list_tables, read_lines
from portal.database import check_schema, create_database_engine, known_revisions, migrate_over, open_session
from portal.settings import Settings
from portal.web.app import create_app
from tests.postgres import PostgresServer
from tests.rows_made import make_rows


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings over a database without any table."""
    data = tmp_path / "portal-data"
    data.mkdir()
    if request.param == "sqlite":
        yield Settings(data=data)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database(f"upgrade_{tmp_path.name}")
    try:
        yield Settings(data=data, database_url=server.url(name))
    finally:
        server.drop_database(name)


def lines_of(engine: Engine, tables: dict[str, Table]) -> dict[str, list[bytes]]:
    """Every row, by the columns that the tables had then."""
    with engine.connect() as connection:
        return {name: list(read_lines(connection, table)) for name, table in tables.items()}


def test_rows_of_every_earlier_schema_are_intact_and_answered(empty: Settings) -> None:
    """At each revision rows are added to every table there is, so those of the first one meet every migration."""
    engine = create_database_engine(empty)
    revisions = known_revisions()[::-1]
    assert len(revisions) > 5
    counts: dict[str, int] = {}
    tables: dict[str, Table] = {}
    for tag, revision in enumerate(revisions):
        before = lines_of(engine, tables)
        with engine.begin() as connection:
            migrate_over(connection, revision)
        assert lines_of(engine, tables) == before, f"{revision} altered rows"
        with engine.begin() as connection:
            counts = make_rows(connection, tag)
            tables = {table.name: table for table in list_tables(connection)}
    check_schema(engine)
    assert counts["run"] == 2 * len(revisions)
    assert all(counts.values())
    with open_session(engine) as session:
        history = verify_history(session, {})
    assert (history.entries, history.broken) == (counts["audit_entry"], None)
    engine.dispose()
    _answers(empty, [f"lab/run-{number}" for number in range(counts["run"])])


def _answers(settings: Settings, runs: list[str]) -> None:
    """The portal starts over the upgraded database and answers about rows of every age."""
    app = create_app(settings)
    try:
        # Without the threads that serving starts: rows that were made up are nothing to sign or to verify.
        client = TestClient(app)
        assert client.get("/readyz").status_code == 200
        listed = client.get("/api/v1/runs", params={"limit": 100}).json()["items"]
        assert {run["run"] for run in listed} == set(runs)
        for run in runs:
            for part in ("", "/checkpoints", "/findings", "/events", "/metrics", "/files", "/evaluations"):
                answer = client.get(f"/api/v1/runs/{run}{part}")
                assert answer.status_code == 200, (run, part, answer.text)
        assert client.get("/").status_code == 200
        jobs = [job["id"] for job in client.get("/api/v1/jobs", params={"limit": 100}).json()["items"]]
        assert jobs
        assert {client.get(f"/api/v1/jobs/{id}").status_code for id in jobs} == {200}
    finally:
        app.state.desk.close()
