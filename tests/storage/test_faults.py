"""Answers spoilt on their way: each read comes good by another try, or ends soon in one clear error."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.errors import IntegrityError, PortalError, Unavailable
from portal.storage.blocks import BlockCache, KnownBlocks
from portal.storage.checked import CheckedStore
from portal.storage.ranged import RangedStore
from tests.storage.blocks import known_blocks
from tests.storage.places import Place, https_place, hub_place, s3_place
from tests.storage.servers import FAULTS, FaultProxy

DATA = random.Random(3).randbytes(300_000)
BLOCK = 100_000
READS = ("range", "ranges", "checked")


class Spoilt:
    """A file behind a proxy, read in one of the ways."""

    def __init__(self, place: Place, proxy: FaultProxy, cache: Path) -> None:
        self.uri = place.put("file.bin", DATA)
        self.store = place.store
        self.proxy = proxy
        self.cache = BlockCache(cache, 1 << 20)
        self.known: KnownBlocks = known_blocks(DATA, BLOCK)

    def read(self, way: str) -> bytes:
        assert isinstance(self.store, RangedStore)
        if way == "range":
            return self.store.read_range(self.uri, 1000, 150_000)
        if way == "ranges":
            return b"".join(self.store.read_ranges(self.uri, [(1000, 9_000), (200_000, 51_000)]))
        return CheckedStore(self.store, self.known, self.cache).read_range(self.uri, 1000, 150_000)


@pytest.fixture(params=["https", pytest.param("s3", marks=pytest.mark.xdist_group("seaweed")), "hub"])
def spoilt(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spoilt]:
    proxies: list[FaultProxy] = []
    if request.param == "s3":
        made = s3_place(request.getfixturevalue("s3_server"), proxies)
    else:
        made = {"https": https_place, "hub": hub_place}[request.param](proxies)
    with made as place:
        yield Spoilt(place, proxies[0], tmp_path / "blocks")


def expected(way: str) -> bytes:
    return DATA[1000:10_000] + DATA[200_000:251_000] if way == "ranges" else DATA[1000:151_000]


@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "flip"])
def test_a_fault_that_passes_is_not_noticed(spoilt: Spoilt, fault: str, way: str) -> None:
    spoilt.proxy.plan = [fault]
    assert spoilt.read(way) == expected(way)


@pytest.mark.parametrize("way", READS)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "flip"])
def test_a_fault_that_stays_is_one_clear_error(spoilt: Spoilt, fault: str, way: str) -> None:
    spoilt.proxy.always = fault
    with pytest.raises(PortalError) as refused:
        spoilt.read(way)
    assert isinstance(refused.value, Unavailable)
    assert "file.bin" in refused.value.message or "lab/run" in refused.value.message
    assert "tries" in refused.value.message
    assert refused.value.remedy
    assert "ignature" not in str(refused.value)


def test_a_flipped_bit_is_fetched_again(spoilt: Spoilt) -> None:
    spoilt.proxy.plan = ["flip"]
    assert spoilt.read("checked") == expected("checked")


def test_a_bit_that_stays_flipped_is_an_error(spoilt: Spoilt) -> None:
    spoilt.proxy.always = "flip"
    with pytest.raises(IntegrityError, match="are not what was published"):
        spoilt.read("checked")
    # Nothing wrong was kept.
    spoilt.proxy.always = ""
    assert spoilt.read("checked") == expected("checked")
