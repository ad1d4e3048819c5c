"""No name that a server invents leads out of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.client.paths import inside
from portal.errors import DataFault

FOLDER = Path("/somewhere/pair")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "/abs",
        "//host/share",
        "a//b",
        "a/",
        "./a",
        "C:\\x",
        "C:x",
        "a\\..\\b",
        "nul\0byte",
        "line\nbreak",
        "esc\x1b[2J",
        "del\x7f",
        "c1\x9b2J",
        "bidi\u202egnp.exe",
        "lone\ud800",
    ],
)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(DataFault, match="cannot be written inside"):
        inside(FOLDER, name)


@pytest.mark.parametrize("name", ["a", "a/b/c.bin", "..a/b..", "ünï/код", "with space", "ab:c", ".hidden"])
def test_honest_names_keep_their_place(name: str) -> None:
    assert inside(FOLDER, name) == FOLDER / name


HOSTILE = st.lists(st.sampled_from(["..", ".", "/", "\\", "a", "C:", "\0", "\n", "\u202e", "b.bin", ""]), max_size=8)


@given(st.one_of(st.text(max_size=40), HOSTILE.map("".join), HOSTILE.map("/".join)))
def test_what_is_accepted_stays_inside(name: str) -> None:
    try:
        found = inside(FOLDER, name)
    except DataFault:
        return
    assert FOLDER in found.parents
    assert ".." not in found.parts
    assert found.resolve().is_relative_to(FOLDER.resolve())
    assert found.relative_to(FOLDER).as_posix() == name
    assert name.isprintable() or not any(ord(c) < 32 for c in name)
