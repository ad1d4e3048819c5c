"""The kinds of columns tables are made of, and how their constraints are named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, DateTime, ForeignKey, Integer, Text
from sqlmodel import Field, SQLModel

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
SQLModel.metadata.naming_convention = NAMING

Key = BigInteger().with_variant(Integer, "sqlite")
"""SQLite autoincrements only INTEGER keys (which are 64-bit there anyway)."""


def primary_key() -> Any:
    """An id that the database hands out."""
    return Field(default=None, sa_column=Column(Key, primary_key=True, autoincrement=True))


def big_integer(nullable: bool = False) -> Any:
    """A 64-bit count: steps, tokens, bytes."""
    return Field(default=None if nullable else 0, sa_column=Column(BigInteger, nullable=nullable))


def text_column(nullable: bool = False) -> Any:
    """Text of any length."""
    return Field(default=None if nullable else "", sa_column=Column(Text, nullable=nullable))


def json_column(empty: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """A list or an object, empty by default."""
    return Field(default_factory=empty, sa_column=Column(JSON, nullable=False))


def belongs_to(table: str, nullable: bool = False) -> Any:
    """The row of ``table`` this one goes with; removed together with it."""
    return Field(
        default=None,
        sa_column=Column(Key, ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=nullable, index=False),
    )


def moment() -> Any:
    """When the row was made, in UTC."""
    return Field(default_factory=lambda: datetime.now(UTC), sa_column=Column(DateTime(timezone=True), nullable=False))
