"""Rows of a step whose bytes lie elsewhere: few requests, no byte in vain, a flipped bit never silent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlmodel import col, select

from portal.catalog.answers import TokenBatch
from portal.catalog.batches import read_batch
from portal.catalog.data import sample_chunk
from portal.database import open_session
from portal.errors import IntegrityError, Unavailable
from portal.models import BlockDigests, FileLocation
from portal.settings import Settings
from portal.tokens.readers import OffsetBuilder, index_path, save_index
from tests.builders import ROW_LENGTH, SMALL, record
from tests.storage.blocks import known_blocks
from tests.storage.servers import Files, serving

ROWS = np.random.default_rng(9).integers(0, 256, (80, ROW_LENGTH)).astype("<u2")
FLAT = ROWS.tobytes()
LINES = b"".join(json.dumps({"token_ids": row.tolist()}).encode() + b"\n" for row in ROWS)
ORDER = np.random.default_rng(5).permutation(80).astype("<u4")


@dataclass
class Far:
    """A web server and the catalog of a run whose data lies there."""

    engine: Engine
    settings: Settings
    files: Files
    address: str

    def record(self, file: dict[str, Any], order: dict[str, Any] | None = None, **chunk: Any) -> None:
        told = {"name": "far", "rows": 80, "files": [file], "format": "flat", "dtype": "u16"} | chunk
        spans = {"first_step": 1, "last_step": 20, "chunks": ["far"], "kind": "sequential"} | (order or {})
        data = {"chunks": [told], "order": [spans]}
        record(self.engine, self.settings, SMALL | {"run": "lab/far", "tokenizer": None, "data": data})

    def read(self, step: int, **settings: Any) -> TokenBatch:
        with open_session(self.engine) as session:
            return read_batch(session, self.settings.model_copy(update=settings), "lab/far", step)

    def keep_digests(self, data: bytes, block: int) -> None:
        known = known_blocks(data, block)
        with open_session(self.engine) as session:
            session.add(
                BlockDigests(
                    sha256=known.sha256, size=known.size, block_size=block, algorithm="blake3", digests=known.digests
                )
            )
            session.commit()

    @property
    def ranges(self) -> list[str]:
        """Range requests so far."""
        return [headers["range"] for _, _, headers in self.files.asked if "range" in headers]


@pytest.fixture
def far(engine: Engine, settings: Settings) -> Iterator[Far]:
    files = Files({"/rows.bin": FLAT, "/rows.jsonl": LINES, "/order.npy": ORDER.tobytes()})
    with serving(files) as address:
        yield Far(engine, settings.model_copy(update={"private_hosts": "127.0.0.1"}), files, address)


def ids(batch: TokenBatch) -> list[list[int]]:
    return [row.token_ids for row in batch.rows]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_sequential_batch_is_one_range(far: Far) -> None:
    far.record({"path": f"{far.address}/rows.bin"})
    cold, warm = far.read(3), far.read(4)
    assert ids(cold) == ROWS[8:12].tolist()
    assert ids(warm) == ROWS[12:16].tolist()
    size = 4 * ROW_LENGTH * 2
    assert far.ranges[-1] == f"bytes={12 * ROW_LENGTH * 2}-{12 * ROW_LENGTH * 2 + size - 1}"
    told = {"bytes_read": size, "reads": 1, "row_bytes": size, "requests": 1}
    assert warm.explain == told | {"bytes_received": size, "bytes_unverified": size}
    # Opening it anew: what kind of file it is, then the rows.
    assert cold.explain["requests"] == 2


def test_lines_are_found_by_the_stored_index(far: Far) -> None:
    builder = OffsetBuilder()
    builder.feed(LINES)
    save_index(index_path(far.settings.data / "store" / "indexes", sha256(LINES)), builder.finish())
    far.record({"path": f"{far.address}/rows.jsonl", "sha256": sha256(LINES)}, format="jsonl", dtype=None)
    far.read(1)
    batch = far.read(7)
    assert ids(batch) == ROWS[24:28].tolist()
    assert batch.explain["requests"] == 1
    assert batch.explain["bytes_received"] == batch.explain["row_bytes"]


@pytest.mark.parametrize("digest", [None, sha256(LINES)])
def test_lines_without_an_index_are_not_searched_for(far: Far, digest: str | None) -> None:
    far.record({"path": f"{far.address}/rows.jsonl", "sha256": digest}, format="jsonl", dtype=None)
    with pytest.raises(Unavailable, match="where its lines begin is not known"):
        far.read(1)
    with open_session(far.engine) as session, pytest.raises(Unavailable, match="where its lines begin"):
        sample_chunk(session, far.settings, "lab/far", "far", [1])
    assert far.files.asked == []


def test_an_order_file_is_read_by_range_too(far: Far) -> None:
    order = {"kind": "index", "file": {"path": f"{far.address}/order.npy"}, "dtype": "u32"}
    far.record({"path": f"{far.address}/rows.bin"}, order)
    far.read(1)
    batch = far.read(5)
    assert ids(batch) == ROWS[ORDER[16:20]].tolist()
    assert "bytes=64-79" in far.ranges
    assert batch.explain["bytes_received"] <= 4 * ROW_LENGTH * 2 * 1.1 + 16 + 8


def test_known_blocks_are_compared_and_kept(far: Far) -> None:
    far.keep_digests(FLAT, 1024)
    far.record({"path": f"{far.address}/rows.bin", "sha256": sha256(FLAT), "size": len(FLAT)})
    cold, warm = far.read(3), far.read(4)
    assert ids(cold) == ROWS[8:12].tolist()
    assert ids(warm) == ROWS[12:16].tolist()
    assert (cold.explain["requests"], cold.explain["bytes_received"], cold.explain["bytes_unverified"]) == (1, 1024, 0)
    assert (warm.explain["requests"], warm.explain["bytes_unverified"]) == (0, 0)


def test_a_flipped_bit_is_an_error_and_its_neighbours_are_answered(far: Far) -> None:
    far.keep_digests(FLAT, 1024)
    far.record({"path": f"{far.address}/rows.bin", "sha256": sha256(FLAT), "size": len(FLAT)})
    far.files.held["/rows.bin"] = FLAT[:1100] + bytes([FLAT[1100] ^ 4]) + FLAT[1101:]
    assert all("not what was published" in (row.fault or "") for row in far.read(9).rows)
    assert ids(far.read(20)) == ROWS[76:].tolist()


def test_exact_ranges_are_read_where_nobody_wants_them_compared(far: Far) -> None:
    far.keep_digests(FLAT, 1024)
    far.record({"path": f"{far.address}/rows.bin", "sha256": sha256(FLAT), "size": len(FLAT)})
    far.read(3, verify_reads="off")
    explain = far.read(4, verify_reads="off").explain
    assert explain["bytes_received"] == explain["bytes_unverified"] == 4 * ROW_LENGTH * 2


def test_a_file_of_another_size_is_refused(far: Far) -> None:
    far.record({"path": f"{far.address}/rows.bin", "size": len(FLAT) - 2})
    with pytest.raises(IntegrityError, match="published with"):
        far.read(1)


def test_a_file_replaced_between_two_looks_is_told(far: Far) -> None:
    far.record({"path": f"{far.address}/rows.bin"})
    far.read(1)
    far.files.held["/rows.bin"] = FLAT[::-1]
    assert all("was replaced" in (row.fault or "") for row in far.read(2).rows)


def test_a_server_in_the_private_network_is_not_read(far: Far) -> None:
    far.record({"path": f"{far.address}/rows.bin"})
    with pytest.raises(Unavailable, match="PORTAL_PRIVATE_HOSTS"):
        far.read(1, private_hosts="")
    assert far.files.asked == []


@pytest.mark.parametrize(("state", "told"), [("changed", "not what was published any more"), ("missing", "not there")])
def test_what_the_last_look_found_is_why_rows_cannot_be_read(far: Far, state: str, told: str) -> None:
    far.record({"path": f"{far.address}/rows.bin"})
    with open_session(far.engine) as session:
        for place in session.exec(select(FileLocation).where(col(FileLocation.uri).endswith("/rows.bin"))):
            place.state = state
        session.commit()
    with pytest.raises(Unavailable, match=rf"rows\.bin is {told}.*rows of chunk far cannot be read"):
        far.read(1)
