"""Digests of the blocks of a file: they tell which parts of a damaged copy are still sound."""

from __future__ import annotations

from sqlmodel import Session

from portal.catalog.answers.files import FileBlocks
from portal.errors import FileNotCatalogued
from portal.models import BlockDigests

DIGEST_BYTES = 32


def get_blocks(session: Session, sha256: str) -> FileBlocks:
    """The digests of the file with this sha256; FileNotCatalogued when it was never hashed here."""
    row = session.get(BlockDigests, sha256)
    if row is None:
        raise FileNotCatalogued(
            f"No file with sha256 {sha256[:64]} was hashed here.", "Only files that lie here have digests of blocks."
        )
    digests = [row.digests[at : at + DIGEST_BYTES].hex() for at in range(0, len(row.digests), DIGEST_BYTES)]
    return FileBlocks(row.sha256, row.size, row.block_size, row.algorithm, digests)
