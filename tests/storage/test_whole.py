"""A file is there whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from portal.errors import DataFault
from portal.storage.whole import writing_whole


@pytest.mark.parametrize("lasting", [False, True])
def test_a_file_is_replaced_in_one_step(tmp_path: Path, lasting: bool) -> None:
    path = tmp_path / "made" / "file"
    for text in ("first", "second"):
        with writing_whole(path, 0o400, lasting) as temporary:
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert list(path.parent.iterdir()) == [path]


def test_where_writing_fails_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("first")

    def write() -> None:
        with writing_whole(path) as temporary:
            temporary.write_text("sec")
            raise DataFault("It is cut short.")

    with pytest.raises(DataFault):
        write()
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
