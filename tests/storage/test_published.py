"""What a store says of a file against what was published, and errors in words of the release."""

from __future__ import annotations

import pytest

from portal.errors import DataFault, Unavailable
from portal.storage import StoredFile
from portal.storage.published import by_path, is_other, look_twice
from portal.storage.s3 import S3Place, S3Store
from portal.storage.store import Meter
from portal.tokens.readers.rows import Tally
from portal.tokens.readers.source import FileBytes
from tests.storage.places import HASTY

SHA, OTHER = "0" * 64, "1" * 64


@pytest.mark.parametrize(
    ("size", "etag", "other"),
    [(3, "", False), (3, SHA, False), (3, OTHER, True), (4, SHA, True), (3, "1" * 32, False), (3, f'"{OTHER}"', False)],
)
def test_only_a_sha256_and_a_size_tell_that_it_is_another_file(size: int, etag: str, other: bool) -> None:
    assert is_other(StoredFile("s3://b/k", "k", size, None, etag), 3, SHA) == other
    assert not is_other(StoredFile("s3://b/k", "k", size, None, etag), None, None)


def test_what_is_as_published_is_asked_for_once() -> None:
    store = S3Store(S3Place(), HASTY)
    asked: list[str] = []

    def ask(*etags: str) -> StoredFile:
        asked.append(etags[min(len(asked), len(etags) - 1)])
        return StoredFile("s3://b/k", "k", 3, None, asked[-1])

    assert look_twice(store, "s3://b/k", 3, SHA, lambda: ask(SHA)).etag == SHA
    assert asked == [SHA]
    asked.clear()
    assert look_twice(store, "s3://b/k", 3, SHA, lambda: ask(OTHER, SHA)).etag == SHA
    assert asked == [OTHER, SHA]


def test_a_file_of_the_portals_store_is_called_by_its_path() -> None:
    error = Unavailable(f"{SHA} at http://s3 may not be read.", "Check the keys.", unanswered=True)
    told = by_path(error, f"s3://b/own/sha256/00/{SHA}", "data/rows.bin")
    assert (type(told), told.message) == (Unavailable, "data/rows.bin at http://s3 may not be read.")
    assert (told.remedy, told.extra) == (error.remedy, error.extra)
    assert by_path(error, "s3://b/rows.bin", "data/rows.bin") is error
    store = S3Store(S3Place("http://127.0.0.1:1"), HASTY)
    with pytest.raises((Unavailable, DataFault), match=r"^data/rows\.bin on S3 could not be read") as refused:
        FileBytes("data/rows.bin", f"s3://bucket/sha256/{SHA}", store, Tally(meter=Meter()))
    assert SHA not in str(refused.value)
