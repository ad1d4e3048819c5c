"""API tokens: who may do more than read."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, DateTime, UniqueConstraint
from sqlmodel import Field, SQLModel

from portal.models.columns import moment, primary_key, text_column


class ApiToken(SQLModel, table=True):
    """A secret somebody holds; only its digest is kept."""

    __tablename__ = "api_token"
    __table_args__ = (UniqueConstraint("digest"), UniqueConstraint("name"))

    id: int | None = primary_key()
    digest: str = text_column()
    """sha256 of the whole token: it has 256 random bits, so nothing slower is needed."""
    prefix: str = text_column()
    """Its first characters, to tell tokens apart in lists; they open nothing."""
    name: str = text_column()
    """Who holds it, or what it is for; what was done with it is recorded under this name."""
    role: str = text_column()
    """reader, publisher, reviewer, worker or admin."""
    organisation: str | None = text_column(nullable=True)
    """The only organisation whose runs it may change; None: any."""
    created_at: datetime = moment()
    expires_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    last_used_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    """To the minute."""
