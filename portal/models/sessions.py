"""Browsers that signed in with an API token."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, DateTime, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from portal.models.columns import belongs_to, moment, primary_key, text_column


class BrowserSession(SQLModel, table=True):
    """A cookie that stands for a token for a while; the token itself is not in it."""

    __tablename__ = "browser_session"
    __table_args__ = (UniqueConstraint("digest"), Index("ix_browser_session_expires_at", "expires_at"))

    id: int | None = primary_key()
    digest: str = text_column()
    """sha256 of the cookie's value, which has 256 random bits."""
    token_id: int = belongs_to("api_token")
    created_at: datetime = moment()
    expires_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
