"""Blocks compared with their digests and kept in a bounded folder."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from portal.errors import DataFault, IntegrityError
from portal.storage.blocks import BlockCache, KnownBlocks
from portal.storage.checked import CheckedStore
from portal.storage.https import HttpsStore
from portal.storage.store import Meter
from tests.storage.blocks import known_blocks
from tests.storage.places import wire
from tests.storage.servers import Files, serving

DATA = random.Random(4).randbytes(25_000)
BLOCK = 4096
KNOWN = known_blocks(DATA, BLOCK)


@pytest.fixture
def web() -> Iterator[tuple[Files, str]]:
    files = Files({"/f": DATA})
    with serving(files) as address:
        yield files, f"{address}/f"


def checked(folder: Path, limit: int = 1 << 20, known: KnownBlocks = KNOWN) -> CheckedStore:
    return CheckedStore(HttpsStore(wire()), known, BlockCache(folder, limit))


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (0, 25_000), (24_999, 1), (4095, 2), (4096, 4096), (4096, 4097), (25_000, 0), (8192, 0), (24_000, 1000)],
)
def test_a_range_is_exactly_those_bytes(web: tuple[Files, str], tmp_path: Path, offset: int, length: int) -> None:
    store = checked(tmp_path)
    for _ in range(2):
        assert store.read_range(web[1], offset, length) == DATA[offset : offset + length]


def test_a_block_is_fetched_once_and_whole(web: tuple[Files, str], tmp_path: Path) -> None:
    store, cold, warm = checked(tmp_path), Meter(), Meter()
    store.read_range(web[1], 5000, 100, cold)
    store.read_ranges(web[1], [(4096, 10), (8000, 192)], warm)
    assert (cold.requests, cold.bytes, cold.unverified) == (1, 4096, 0)
    assert (warm.requests, warm.bytes, warm.unverified) == (0, 0, 0)


@pytest.mark.parametrize(("offset", "length"), [(24_999, 2), (25_001, 0), (-1, 5)])
def test_a_range_past_the_end_is_a_fault(web: tuple[Files, str], tmp_path: Path, offset: int, length: int) -> None:
    with pytest.raises(DataFault):
        checked(tmp_path).read_range(web[1], offset, length)


@pytest.mark.parametrize("at", [0, 4095, 4096, 24_999])
def test_a_flipped_bit_at_the_server_is_an_error(web: tuple[Files, str], tmp_path: Path, at: int) -> None:
    files, uri = web
    files.held["/f"] = DATA[:at] + bytes([DATA[at] ^ 0x80]) + DATA[at + 1 :]
    with pytest.raises(IntegrityError, match="BLAKE3"):
        checked(tmp_path).read_range(uri, at, 1)
    other = (at + 3 * BLOCK) % 25_000
    assert checked(tmp_path).read_range(uri, other, 1) == DATA[other : other + 1]


def test_a_flipped_bit_in_the_cache_is_fetched_anew(web: tuple[Files, str], tmp_path: Path) -> None:
    store, meter = checked(tmp_path), Meter()
    store.read_range(web[1], 0, 10)
    (kept,) = tmp_path.iterdir()
    damaged = bytearray(kept.read_bytes())
    damaged[5] ^= 1
    kept.write_bytes(damaged)
    assert store.read_range(web[1], 0, 10, meter) == DATA[:10]
    assert meter.requests == 1
    kept.write_bytes(DATA[:100])
    assert store.read_range(web[1], 0, 10) == DATA[:10]


def test_the_cache_keeps_to_its_size_and_what_was_used_last(web: tuple[Files, str], tmp_path: Path) -> None:
    store = checked(tmp_path, limit=3 * BLOCK)
    for block in (0, 1, 2, 0, 3):
        store.read_range(web[1], block * BLOCK, 10)
    kept = {int(path.name.split(".")[1]) for path in tmp_path.iterdir()}
    assert kept == {0, 2, 3}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * BLOCK


def test_without_room_nothing_is_kept(web: tuple[Files, str], tmp_path: Path) -> None:
    assert checked(tmp_path / "blocks", limit=0).read_range(web[1], 0, 10) == DATA[:10]
    full = CheckedStore(HttpsStore(wire()), KNOWN, BlockCache(tmp_path / "full", 1 << 20, reserve=1 << 60))
    assert full.read_range(web[1], 0, 10) == DATA[:10]
    assert list((tmp_path / "full").iterdir()) == [], "what the disk is to keep free is not taken by a cache"
    assert not (tmp_path / "blocks").exists()


def test_readers_of_one_cold_block_fetch_it_once(web: tuple[Files, str], tmp_path: Path) -> None:
    store, meter = checked(tmp_path), Meter()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: store.read_range(web[1], 0, 10, meter), range(32))) == {DATA[:10]}
    assert meter.requests == 1


def _read_all(folder: Path, uri: str) -> bool:
    store = checked(folder, limit=3 * BLOCK)
    return all(store.read_range(uri, at, 1000) == DATA[at : at + 1000] for at in range(0, 24_000, 1000))


def test_processes_share_a_cache(web: tuple[Files, str], tmp_path: Path) -> None:
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawned) as pool:
        assert all(pool.map(_read_all, [tmp_path] * 2, [web[1]] * 2))
    assert sum(path.stat().st_size for path in tmp_path.glob("*.block")) <= 5 * BLOCK


def test_digests_that_do_not_fit_the_size_are_refused(tmp_path: Path) -> None:
    for wrong in (replace(KNOWN, size=BLOCK), replace(KNOWN, block_size=0), replace(KNOWN, digests=b"")):
        with pytest.raises(IntegrityError, match="do not fit"):
            checked(tmp_path, known=wrong)
