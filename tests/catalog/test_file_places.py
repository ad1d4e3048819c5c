"""Which place of a file is read and shown where it lies in several."""

from __future__ import annotations

import pytest

from portal.catalog.files import FilePlace, FileRow, Links, place_in_reach

HERE, FAR = "file:///r/w.bin", "s3://bucket/w.bin"


def row(*places: tuple[str, str]) -> FileRow:
    return FileRow(
        1,
        None,
        None,
        "w.bin",
        "weights",
        3,
        "0" * 64,
        tuple(FilePlace(uri, state, None, None) for uri, state in places),
    )


@pytest.mark.parametrize(
    ("places", "read"),
    [
        ([(HERE, "verified"), (FAR, "verified")], HERE),
        ([(HERE, "changed"), (FAR, "verified")], FAR),
        ([(HERE, "changed"), (FAR, "unverified")], FAR),
        ([(HERE, "changed"), (FAR, "changed")], HERE),
        ([(HERE, "changed"), ("file:///store/w", "verified"), (FAR, "verified")], "file:///store/w"),
        ([(HERE, "missing"), (FAR, "verified")], FAR),
        ([(HERE, "changed")], HERE),
        ([(HERE, "missing")], None),
    ],
)
def test_a_good_copy_is_read_before_a_damaged_one(places: list[tuple[str, str]], read: str | None) -> None:
    found = place_in_reach(row(*places))
    assert (found.uri if found else None) == read


def test_both_states_are_shown() -> None:
    view = Links().file_view(row((HERE, "changed"), (FAR, "verified")))
    assert (view.location, view.state) == (FAR, "verified")
    assert [(c.location, c.state) for c in view.copies] == [("local", "changed")]
