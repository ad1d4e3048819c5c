"""The schema is the models', on both databases, and its switches are on."""

from sqlalchemy import Engine, inspect, text
from sqlmodel import SQLModel

from portal.database import check_schema


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
