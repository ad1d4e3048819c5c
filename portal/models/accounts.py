"""API tokens, and people whom an identity provider vouches for: who may do more than read."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, DateTime, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from portal.models.columns import big_integer, json_column, moment, primary_key, text_column


class ApiToken(SQLModel, table=True):
    """A secret somebody holds, of which only the digest is kept; or, with an issuer, a person who signs in there.

    Both stand in one table because what is done is recorded under a name, and no two holders share one.
    """

    __tablename__ = "api_token"
    __table_args__ = (
        UniqueConstraint("digest"),
        UniqueConstraint("name"),
        Index("ix_api_token_maker_id", "maker_id"),
        Index("ix_api_token_issuer_subject", "issuer", "subject", unique=True),
    )

    id: int | None = primary_key()
    digest: str = text_column()
    """sha256 of the whole token: it has 256 random bits, so nothing slower is needed. Of a person, that of no token."""
    prefix: str = text_column()
    """Its first characters, to tell tokens apart in lists; they open nothing. Empty for a person."""
    name: str = text_column()
    """Who holds it, or what it is for; what was done with it is recorded under this name."""
    role: str = text_column()
    """reader, publisher, reviewer, worker or admin; `none` for a person who may do nothing any more."""
    organisation: str | None = text_column(nullable=True)
    """The only organisation whose runs it may change; None: any."""
    runs: list[str] = json_column(list)
    """The only runs it is good for, inside its organisation; empty: all."""
    maker_id: int | None = big_integer(nullable=True)
    """The token or person it was made with, which bounds it; None: made where the portal runs."""
    issuer: str | None = text_column(nullable=True)
    """Of a person: the identity provider's name of itself."""
    subject: str | None = text_column(nullable=True)
    """Of a person: who they are there, for ever."""
    created_at: datetime = moment()
    expires_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    last_used_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    """To the minute."""
