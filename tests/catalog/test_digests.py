"""Digests of files and of their blocks, as they were stored when they were hashed."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from portal.catalog.digests import get_blocks, list_files
from portal.database import Engine, open_session
from portal.errors import FileNotCatalogued
from portal.models import BlockDigests
from portal.settings import Settings
from portal.storage.hashing import hash_file
from tests.builders import small_run


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


def test_all_files_of_a_run_in_pages(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    small = small_run(engine, settings, tmp_path / "release")
    with open_session(engine) as session:
        first = list_files(session, settings, small.run, 5)
        found, cursor = list(first.items), first.next
        while cursor:
            page = list_files(session, settings, small.run, 5, cursor)
            found, cursor = found + page.items, page.next
    assert first.total == len(found) == 14
    assert {f.path for f in found} >= {"step0/model.safetensors", "chunk_1.jsonl", "tokenizer.json", "train.yaml"}
    for file in found:
        assert file.sha256 == hash_file(small.folder / file.path).sha256
