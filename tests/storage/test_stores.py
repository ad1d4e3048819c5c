"""What every store does alike: local folders, web servers, a real S3 server and a Hub."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from portal.errors import BadRequest, DataFault, FileMissing, Unavailable
from tests.storage.places import Place

DATA = bytes(random.Random(1).randbytes(100_000))
NAMES = [
    "plain.bin",
    "with space.bin",
    "50%25 off.bin",
    "ünïcode-日本.bin",
    "plus+and&.bin",
    "a'(b)[c].bin",
    "deep/er/x.bin",
]


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (0, 100_000), (99_999, 1), (50_000, 50_000), (1, 99_998), (0, 0), (100_000, 0), (4095, 4098)],
)
def test_a_range_is_exactly_those_bytes(place: Place, offset: int, length: int) -> None:
    uri = place.put("file.bin", DATA)
    assert place.store.read_range(uri, offset, length) == DATA[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(99_999, 2), (100_000, 1), (0, 100_001), (200_000, 5), (100_001, 0)])
def test_a_range_past_the_end_is_a_fault(place: Place, offset: int, length: int) -> None:
    uri = place.put("file.bin", DATA)
    with pytest.raises(DataFault, match="cut short"):
        place.store.read_range(uri, offset, length)


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1)])
def test_bytes_are_counted_from_zero(place: Place, offset: int, length: int) -> None:
    uri = place.put("file.bin", DATA)
    with pytest.raises(BadRequest, match="Count bytes from 0"):
        place.store.read_range(uri, offset, length)


def test_several_ranges_come_in_the_order_asked_for(place: Place) -> None:
    uri = place.put("file.bin", DATA)
    dice = random.Random(7)
    ranges = [(at := dice.randrange(100_000), dice.randrange(100_001 - at)) for _ in range(40)]
    ranges += [(5, 10), (5, 10), (0, 0), (15, 1), (99_990, 10)]
    assert place.store.read_ranges(uri, ranges) == [DATA[at : at + length] for at, length in ranges]
    assert place.store.read_ranges(uri, []) == []


def test_one_bad_range_of_several_is_a_fault(place: Place) -> None:
    uri = place.put("file.bin", DATA)
    with pytest.raises(DataFault):
        place.store.read_ranges(uri, [(0, 10), (99_999, 10)])


def test_a_file_tells_its_size(place: Place) -> None:
    uri = place.put("deep/file.bin", DATA)
    found = place.store.stat(uri)
    assert (found.uri, found.path, found.size) == (uri, "file.bin", 100_000)


def test_an_empty_file_is_a_file(place: Place) -> None:
    uri = place.put("empty", b"")
    assert place.store.stat(uri).size == 0
    assert place.store.read_range(uri, 0, 0) == b""
    with pytest.raises(DataFault):
        place.store.read_range(uri, 0, 1)


def test_what_is_not_there_is_missing(place: Place) -> None:
    uri = place.put("file.bin", DATA)
    with pytest.raises(FileMissing, match="not there"):
        place.store.stat(f"{uri}-not")
    with pytest.raises(FileMissing, match="not there"):
        place.store.read_range(f"{uri}-not", 0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_kept_as_they_are(place: Place, name: str) -> None:
    uri = place.put(name, name.encode())
    assert place.store.read_range(uri, 0, len(name.encode())) == name.encode()
    assert place.store.stat(uri).size == len(name.encode())


def test_a_folder_lists_its_files_by_path(place: Place) -> None:
    for name in [*NAMES, "deep/a.bin", "deep.bin", "Z.bin"]:
        place.put(name, name.encode())
    if not place.listable:
        with pytest.raises(Unavailable, match="cannot be listed"):
            list(place.store.list_files(place.folder))
        return
    listed = list(place.store.list_files(place.folder))
    assert [f.path for f in listed] == sorted([*NAMES, "deep/a.bin", "deep.bin", "Z.bin"])
    for found in listed:
        assert place.store.read_range(found.uri, 0, found.size) == found.path.encode()


def test_a_folder_that_is_not_there_is_missing(place: Place) -> None:
    place.put("file.bin", DATA)
    if place.listable:
        with pytest.raises(FileMissing):
            list(place.store.list_files(f"{place.folder}/nothing"))


def test_a_file_cut_short_is_told(place: Place) -> None:
    uri = place.put("file.bin", DATA)
    assert place.store.read_range(uri, 90_000, 10_000) == DATA[90_000:]
    place.put("file.bin", DATA[:50_000])
    with pytest.raises(DataFault, match="cut short"):
        place.store.read_range(uri, 90_000, 10_000)


def test_many_threads_read_one_store(place: Place) -> None:
    uri = place.put("file.bin", DATA)

    def read(seed: int) -> bool:
        at = random.Random(seed).randrange(90_000)
        return place.store.read_range(uri, at, 10_000) == DATA[at : at + 10_000]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read, range(64)))


def test_a_long_range_comes_in_several_requests(place: Place) -> None:
    data = random.Random(2).randbytes((17 << 20) + 3)
    uri = place.put("long.bin", data)
    assert place.store.read_range(uri, 1, len(data) - 2) == data[1:-1]
