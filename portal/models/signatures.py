"""Public keys this portal ever signed with, and what publishers signed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from portal.models.columns import belongs_to, big_integer, json_column, moment, primary_key, text_column


class PortalKey(SQLModel, table=True):
    """A key the portal signs with, or signed with once: what it signed stays checkable after it was replaced."""

    __tablename__ = "portal_key"

    key_id: str = Field(sa_column=Column(Text, primary_key=True))
    """sha256 of the public key as PEM."""
    public_key: str = text_column()
    """PEM."""
    first_used_at: datetime = moment()


class ReleaseSignature(SQLModel, table=True):
    """A publisher's signature over one release."""

    __tablename__ = "release_signature"
    __table_args__ = (UniqueConstraint("release_id", "key_id"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    key_id: str = text_column()
    public_key: str = text_column()
    """PEM."""
    bundle: str = text_column()
    """The signature as it was made: a Sigstore bundle in OpenSSF Model Signing's form."""
    files: int = big_integer()
    """Files it vouches for."""
    unsigned: list[Any] = json_column(list)
    """Paths of released files that it says nothing of."""
    signed_at: datetime = moment()
