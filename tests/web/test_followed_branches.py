"""Data on a branch of another portal, which publishes a new version: a portal that reads it follows, and mixes nothing."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from portal.database import create_database_engine
from portal.exchange.publish import publish
from portal.scan.verify import Plan, verify_run
from portal.settings import Settings
from portal.storage import hub
from portal.web.app import create_app
from tests.client.servers import running
from tests.exchange.releases import write_release

CHUNK = "data/part_0.jsonl"
ROWS = "/api/v1/runs/lab/far/steps/1/tokens?count=1&text=false"


class Portals:
    """The portal that has the data, and the one that reads it from there; each with its own catalog and connections."""

    def __init__(self, folder: Path, template: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.here = write_release(folder / "release")
        self.source = self._settings("source", template)
        self.publish_source()
        url = stack.enter_context(running(create_app(self.source)))
        self.settings = self._settings("reader", template).model_copy(
            update={"hf_endpoint": url, "private_hosts": "127.0.0.1"}
        )

    def publish_source(self, **how: Any) -> None:
        self._publish(self.here, self.source, **how)

    def publish_reader(self, known: bool, **how: Any) -> None:
        """``known``: whether the digests of its blocks are, as after a deep look; an index of lines is kept anyway."""
        data = (self.here / CHUNK).read_bytes()
        held = {"path": f"hf://datasets/lab/small@main/{CHUNK}", "size": len(data)}
        held["sha256"] = hashlib.sha256(data).hexdigest()
        document = {
            "format": "llm360-portal/release/1",
            "run": "lab/far",
            "training": yaml.safe_load((self.here / "release.yaml").read_text())["training"] | {"last_step": 5},
            "data": {
                "chunks": [{"name": "c", "files": [held], "format": "jsonl"}],
                "order": [{"first_step": 1, "last_step": 5, "chunks": ["c"], "kind": "sequential"}],
            },
        }
        place = self.folder / "far" / "release.yaml"
        place.parent.mkdir(exist_ok=True)
        place.write_text(yaml.safe_dump(document))
        self._publish(place, self.settings, **how)
        engine = create_database_engine(self.settings)
        verify_run(engine, self.settings, "lab/far", Plan(remote=True))
        if not known:
            with engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM block_digests")
        engine.dispose()

    def change(self) -> None:
        """Other rows of the same length, in a copy: what was published stays where it is."""
        self.here = shutil.copytree(self.here, self.folder / "changed")
        path = self.here / CHUNK
        first, *others = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*others, first]))

    def row(self, number: int) -> bytes:
        return (self.here / CHUNK).read_bytes().splitlines()[number]

    def _settings(self, name: str, template: Path) -> Settings:
        data = self.folder / name
        data.mkdir()
        (data / "portal.sqlite3").write_bytes(template.read_bytes())
        return Settings(data=data)

    def _publish(self, place: Path, settings: Settings, **how: Any) -> None:
        engine = create_database_engine(settings)
        publish(place, settings, engine, **how)
        engine.dispose()


@pytest.fixture
def portals(sqlite_template: Path, tmp_path: Path) -> Iterator[Portals]:
    with ExitStack() as stack:
        yield Portals(tmp_path, sqlite_template, stack)


@pytest.mark.parametrize("known", [True, False])
def test_a_new_version_there_and_here_is_read_at_once(portals: Portals, known: bool) -> None:
    portals.publish_reader(known)
    app = create_app(portals.settings)
    client = TestClient(app, raise_server_exceptions=False)

    def ids() -> Any:
        answer = client.get(ROWS)
        assert answer.status_code == 200, answer.text
        return answer.json()["rows"][0]["token_ids"]

    before = ids()
    portals.change()
    portals.publish_source(reason="Rows in another order.")
    # What this run published is still there, at the commit that was read.
    assert ids() == before
    portals.publish_reader(known, reason="So are its own.")
    after = ids()
    app.state.desk.close()
    assert after != before
    assert str(after).replace(" ", "") in portals.row(0).decode().replace(" ", "")


def test_a_branch_that_went_on_alone_is_told(portals: Portals, monkeypatch: pytest.MonkeyPatch) -> None:
    portals.publish_reader(known=False)
    app = create_app(portals.settings)
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get(ROWS).status_code == 200
    portals.change()
    portals.publish_source(reason="Rows in another order.")
    monkeypatch.setattr(hub, "COMMIT_S", -1.0)
    # The first met it while it read, and whoever looks again is told what is there instead.
    told = [client.get(ROWS.replace("steps/1", f"steps/{step}")).json() for step in (2, 3, 4)]
    app.state.desk.close()
    (row,) = told[0]["rows"]
    assert "was replaced while it was being read" in row["fault"]
    assert row["token_ids"] == []
    for answer in told[1:]:
        assert (answer["code"], "it was published with" in answer["detail"]) == ("integrity", True)
