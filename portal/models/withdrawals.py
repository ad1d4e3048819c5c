"""Versions that were withdrawn: what is left of them for readers is who did it, when and why."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, DateTime, UniqueConstraint
from sqlmodel import Field, SQLModel

from portal.models.columns import belongs_to, moment, primary_key, text_column


class Withdrawal(SQLModel, table=True):
    """The tombstone of one version of a run. It stays for ever; its bytes stay until an administrator purges them."""

    __tablename__ = "withdrawal"
    __table_args__ = (UniqueConstraint("release_id"),)

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    withdrawn_at: datetime = moment()
    withdrawn_by: str = text_column()
    reason: str = text_column()
    purged_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    """Since when nothing keeps its bytes in the portal's own store."""
