"""What only one process of a portal does at a time."""

from __future__ import annotations

from sqlalchemy import Column, Text
from sqlmodel import Field, SQLModel

from portal.models.columns import big_integer, text_column


class Duty(SQLModel, table=True):
    """A task of the portal itself, and the process that may do it until its time is up."""

    __tablename__ = "duty"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    holder: str = text_column()
    """Empty when nobody holds it."""
    until_ms: int = big_integer()
    """By the database's clock, in milliseconds since 1970; whoever comes later may take it."""
