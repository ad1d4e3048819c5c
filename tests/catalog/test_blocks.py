"""Digests of blocks as they were stored when a file was hashed."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from portal.catalog.blocks import get_blocks
from portal.database import Engine, open_session
from portal.errors import FileNotCatalogued
from portal.models import BlockDigests
from portal.storage.hashing import hash_file


def test_one_digest_for_each_block(engine: Engine, tmp_path: Path) -> None:
    body = b"a" * (8 << 20) + b"b"
    (tmp_path / "f").write_bytes(body)
    found = hash_file(tmp_path / "f")
    with open_session(engine) as session:
        session.add(
            BlockDigests(
                sha256=found.sha256,
                size=found.size,
                block_size=found.block_size,
                algorithm=found.algorithm,
                digests=found.blocks,
            )
        )
        session.commit()
        told = get_blocks(session, found.sha256)
        assert told.digests == [blake3(body[: 8 << 20]).hexdigest(), blake3(b"b").hexdigest()]
        assert (told.size, told.block_size, told.algorithm) == (len(body), 8 << 20, "blake3")
        with pytest.raises(FileNotCatalogued):
            get_blocks(session, "0" * 64)
