"""Answers that were given, for requests that are sent again because their answer was lost."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlmodel import SQLModel

from portal.models.columns import big_integer, moment, primary_key, text_column


class KeptReply(SQLModel, table=True):
    """The answer to the first request with this key that did something."""

    __tablename__ = "kept_reply"
    __table_args__ = (UniqueConstraint("caller", "key"),)

    id: int | None = primary_key()
    caller: str = text_column()
    """Name of the caller's token: keys of different callers never meet."""
    key: str = text_column()
    request: str = text_column()
    """sha256 of method, path and body: the same key with another request is a mistake."""
    status: int = big_integer()
    body: str = text_column()
    created_at: datetime = moment()
