"""The history: who did what and when, each entry bound to the one before it; and the heads that were signed."""

from __future__ import annotations

from sqlalchemy import Column, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from portal.models.columns import Key, big_integer, primary_key, text_column


class AuditEntry(SQLModel, table=True):
    """One change. Rows are added and never altered: triggers of the database refuse everything else."""

    __tablename__ = "audit_entry"
    __table_args__ = (
        Index("ix_audit_entry_run_seq", "run", "seq"),
        Index("ix_audit_entry_actor_seq", "actor", "seq"),
        Index("ix_audit_entry_action_seq", "action", "seq"),
    )

    seq: int = Field(sa_column=Column(Key, primary_key=True, autoincrement=False))
    """Counted from 1 without a gap; the order of the entries, whatever the clock said."""
    prev: str = text_column()
    """Hash of the entry before; 64 zeros in the first."""
    at_ms: int = big_integer()
    """Milliseconds since 1970 by the clock of whoever wrote it."""
    actor: str = text_column()
    """Name of a token, or ``operator``, ``portal``, ``anonymous``."""
    action: str = text_column()
    object: str = text_column()
    """What was changed, as ``kind:name``."""
    run: str | None = text_column(nullable=True)
    """``org/name`` of the run it is about, if it is about one: who may see the run may see the entry."""
    detail: str = text_column()
    """Canonical JSON; never a secret."""
    hash: str = text_column()
    """sha256 over ``prev``, ``seq`` and everything else of the row (`portal.catalog.audit.chain`)."""


class AuditHead(SQLModel, table=True):
    """The newest entry at some moment, signed by the portal: nothing up to it can be changed unnoticed."""

    __tablename__ = "audit_head"
    __table_args__ = (UniqueConstraint("seq", "key_id"),)

    id: int | None = primary_key()
    seq: int = big_integer()
    hash: str = text_column()
    key_id: str = text_column()
    signed_ms: int = big_integer()
    envelope: str = text_column()
    """The signature: a DSSE envelope around an in-toto statement."""
