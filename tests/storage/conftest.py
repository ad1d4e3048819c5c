"""The kinds of stores, each with an empty folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.places import Place, https_place, hub_place, local_place, s3_place


@pytest.fixture(params=["local", "https", pytest.param("s3", marks=pytest.mark.xdist_group("seaweed")), "hub"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty folder of each kind of store."""
    if request.param == "local":
        folder = tmp_path / "folder"
        folder.mkdir()
        made = local_place(folder)
    elif request.param == "s3":
        made = s3_place(request.getfixturevalue("s3_server"))
    else:
        made = {"https": https_place, "hub": hub_place}[request.param]()
    with made as found:
        yield found
