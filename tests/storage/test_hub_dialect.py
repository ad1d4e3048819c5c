"""The hub store against the portal's own dialect: every checkpoint of a run, byte for byte."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from portal.database import create_database_engine
from portal.errors import FileMissing
from portal.settings import Settings
from portal.storage.hub import HubStore
from portal.web.app import create_app
from tests.builders import SmallRun, small_run
from tests.storage.places import wire


@pytest.fixture
def small(sqlite_settings: Settings, tmp_path: Path) -> Iterator[SmallRun]:
    engine = create_database_engine(sqlite_settings)
    yield small_run(engine, sqlite_settings, tmp_path / "run")
    engine.dispose()


@pytest.fixture
def endpoint(sqlite_settings: Settings, small: SmallRun) -> Iterator[str]:
    """A portal on a free port."""
    server = uvicorn.Server(uvicorn.Config(create_app(sqlite_settings), log_level="error", access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_a_checkpoint_is_listed_and_read_as_published(endpoint: str, small: SmallRun) -> None:
    store = HubStore(wire(), endpoint)
    listed = {f.path: f for f in store.list_files("hf://lab/small@step-10")}
    for name in ("model.safetensors", "optimizer.bin"):
        published = (small.folder / "step10" / name).read_bytes()
        found = listed[name]
        assert (found.size, found.etag) == (len(published), hashlib.sha256(published).hexdigest())
        assert store.read_range(found.uri, 0, found.size) == published
        assert store.read_ranges(found.uri, [(900, 100), (5, 7)]) == [published[900:1000], published[5:12]]
        assert store.stat(f"hf://lab/small@step-10/{name}").size == len(published)


def test_what_the_portal_does_not_have_is_named(endpoint: str) -> None:
    store = HubStore(wire(), endpoint)
    for uri, match in (
        ("hf://lab/absent/x", "no repository"),
        ("hf://lab/small@step-3/x", "no revision step-3"),
        ("hf://lab/small@step-10/absent.bin", "is not there"),
    ):
        with pytest.raises(FileMissing, match=match):
            store.read_range(uri, 0, 1)
