"""Browsers that signed in, and answers of identity providers that were used up by it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, DateTime, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from portal.models.columns import belongs_to, big_integer, moment, primary_key, text_column


class BrowserSession(SQLModel, table=True):
    """A cookie that stands for a token, or a person, for a while; the token itself is not in it."""

    __tablename__ = "browser_session"
    __table_args__ = (UniqueConstraint("digest"), Index("ix_browser_session_expires_at", "expires_at"))

    id: int | None = primary_key()
    digest: str = text_column()
    """sha256 of the cookie's value, which has 256 random bits."""
    token_id: int = belongs_to("api_token")
    created_at: datetime = moment()
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    """Ends then whatever happens."""
    idle_seconds: int = big_integer()
    """Ends sooner when nothing was asked with it for so long; 0: it does not."""
    seen_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    """When it was last asked with, to a few minutes; None: not since it began."""


class SpentNonce(SQLModel, table=True):
    """An identity provider's answer that somebody has signed in with: no second time."""

    __tablename__ = "spent_nonce"
    __table_args__ = (UniqueConstraint("digest"),)

    id: int | None = primary_key()
    digest: str = text_column()
    """sha256 of the nonce."""
    spent_at: datetime = moment()
