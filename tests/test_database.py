"""The schema is the models', on both databases, and its switches are on."""

import time

import pytest
from sqlalchemy import Engine, inspect, text
from sqlmodel import SQLModel

from portal.database import DatabaseDown, check_schema, create_database_engine, was_given_up
from portal.settings import Settings
from portal.statements import any_time

COUNTED = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT {} FROM n"


def test_migrated_schema_has_every_table(engine: Engine) -> None:
    check_schema(engine)
    assert set(SQLModel.metadata.tables) <= set(inspect(engine).get_table_names())


def test_sqlite_is_durable_and_enforces_references(engine: Engine) -> None:
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_sqlite_gives_up_a_statement_by_the_time_it_takes_itself(sqlite_settings: Settings) -> None:
    """Not what one call writes many times, nor what waits for whoever reads its rows; and what was written is undone."""
    engine = create_database_engine(sqlite_settings, 0.05)
    endless = COUNTED.replace(" WHERE i < 3000000", "").format("max(i)")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE told (i INTEGER)"))
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO told VALUES (1)"))
        with pytest.raises(DatabaseDown) as given_up:
            connection.execute(text(endless))
    assert was_given_up(given_up.value)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM told")).scalar() == 0
        driver = connection.connection.driver_connection
        cursor = driver.cursor()
        cursor.execute(COUNTED.format("i"))
        for _ in range(6):
            assert cursor.fetchone()
            time.sleep(0.02)
        assert len(cursor.fetchmany(1000)) == 1000
        cursor.executemany("INSERT INTO told VALUES (?)", ((i,) for i in range(300_000)))
        assert cursor.execute("SELECT count(*) FROM told").fetchone() == (300_000,)
        driver.rollback()
        with pytest.raises(Exception, match="interrupted"):
            cursor.execute(COUNTED.format("i")).fetchall()
        with any_time(driver):
            assert cursor.execute(COUNTED.format("max(i)")).fetchone() == (3_000_000,)
    engine.dispose()
