"""Files, where their bytes lie, and the digests of their blocks."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, DateTime, Index, LargeBinary, Text
from sqlmodel import Field, SQLModel

from portal.models.columns import belongs_to, big_integer, primary_key, text_column


class File(SQLModel, table=True):
    """One file of a release: identified by sha256 and size where these are known."""

    __tablename__ = "file"
    __table_args__ = (
        Index("ix_file_sha256", "sha256"),
        Index("ix_file_checkpoint_id", "checkpoint_id"),
        Index("ix_file_chunk_id", "chunk_id"),
        Index("ix_file_release_id_path", "release_id", "path"),
    )

    id: int | None = primary_key()
    release_id: int = belongs_to("release")
    checkpoint_id: int | None = belongs_to("checkpoint", nullable=True)
    chunk_id: int | None = belongs_to("chunk", nullable=True)
    path: str = text_column()
    """Path inside its release, or the part of a URI that names the file."""
    role: str = text_column()
    size: int | None = big_integer(nullable=True)
    sha256: str | None = text_column(nullable=True)
    position: int = big_integer()
    """Order among the files of one chunk (shards) or checkpoint."""


class FileLocation(SQLModel, table=True):
    """Where the bytes of a file lie."""

    __tablename__ = "file_location"
    __table_args__ = (Index("ix_file_location_file_id", "file_id"),)

    id: int | None = primary_key()
    file_id: int = belongs_to("file")
    uri: str = text_column()
    modified_ns: int | None = big_integer(nullable=True)
    """mtime when it was hashed (local files): a later one means it must be looked at again."""
    verified_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    """When all its bytes were last found to be what was published."""
    checked_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=True))
    """When it was last looked at to the end; null before, and from the moment a look begins until it ends."""
    checked_bytes: int | None = big_integer(nullable=True)
    """How many of its bytes that look compared with what was published."""
    state: str = text_column()
    """``unverified`` (nothing to compare with, or never read here), ``verified``, ``sampled`` (some blocks were compared
    and are right), ``missing``, ``changed``, or ``unreachable`` (it could not be read, so nothing is known of it)."""


class BlockDigests(SQLModel, table=True):
    """A digest of every 8 MiB block of a file, so that a range read can be checked."""

    __tablename__ = "block_digests"

    sha256: str = Field(sa_column=Column(Text, primary_key=True))
    size: int = big_integer()
    block_size: int = big_integer()
    algorithm: str = text_column()
    """``blake3`` (see portal/storage/hashing.py)."""
    digests: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """32 bytes a block, in order."""
