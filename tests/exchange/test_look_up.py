"""What a Hub states of files that a manifest only points to; the Hub is another portal, or one made for tests."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.cli import main
from portal.database import create_database_engine, migrate
from portal.exchange.publish import PublishReport, publish
from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import small_run
from tests.client.servers import running
from tests.storage.servers import Hub, serving

RUN = "lab/pointed"


@pytest.fixture(scope="module")
def other_portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A portal that serves ``lab/small`` in the Hub's dialect: its address, and the folder of the release."""
    folder = tmp_path_factory.mktemp("other")
    settings = Settings(data=folder / "data")
    settings.data.mkdir()
    engine = create_database_engine(settings)
    migrate(engine)
    small_run(engine, settings, folder / "release")
    engine.dispose()
    app = create_app(settings)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", folder / "release"
        server.should_exit = True
        thread.join()
    app.state.desk.close()


def pointing(folder: Path, repository: str = "lab/small", **changes: Any) -> Path:
    """A manifest as those that ship: it names places on the Hub, and nothing of the files."""
    folder.mkdir(exist_ok=True)
    document = {
        "format": "llm360-portal/release/1",
        "run": RUN,
        "training": {"last_step": 20},
        "checkpoints": [
            {"steps": {"first": 5, "every": 5, "count": 4}, "location": f"hf://{repository}@step-{{step}}"}
        ],
        "data": {
            "chunks": [
                {
                    "name": "c",
                    "files": [{"path": "hf://datasets/lab/small/chunk_0.jsonl"}],
                    "format": "jsonl",
                    "rows": 40,
                }
            ]
        },
    } | changes
    (folder / "release.json").write_text(json.dumps(document))
    return folder / "release.json"


def with_hub(settings: Settings, address: str) -> Settings:
    return settings.model_copy(
        update={"hf_endpoint": address, "private_hosts": "127.0.0.1", "remote_attempts": 1, "remote_timeout": 10}
    )


def findings(report: PublishReport) -> dict[str, Any]:
    return {f.code: f for f in report.findings}


def test_a_portal_as_the_hub_states_size_and_sha256(
    engine: Engine, settings: Settings, tmp_path: Path, other_portal: tuple[str, Path]
) -> None:
    address, folder = other_portal
    asked = with_hub(settings, address)
    manifest = pointing(tmp_path / "release")
    bare = publish(manifest, asked, engine)
    assert bare.files == 1
    assert any("--look-up" in sentence for sentence in bare.plan)
    report = publish(manifest, asked, engine, ask_hub=True)
    assert (report.state, report.version) == ("published", 2)
    stated = findings(report)["digests-stated-by-hub"]
    assert stated.evidence == {"files": report.files, "commits": 5}
    app = create_app(asked)
    with TestClient(app, follow_redirects=False) as client:
        files = client.get(f"/api/v1/runs/{RUN}/checkpoints/10").json()["files"]
        weights = next(f for f in files if f["path"].endswith("model.safetensors"))
        body = (folder / "step10" / "model.safetensors").read_bytes()
        assert (weights["size"], weights["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
        # Known by word alone, and pinned to the commit it was said of.
        assert weights["state"] == "unverified"
        assert len(weights["location"].split("@")[1].split("/")[0]) == 40
        chunk = client.get(f"/api/v1/runs/{RUN}/chunks/c").json()["files"][0]
        body = (folder / "chunk_0.jsonl").read_bytes()
        assert (chunk["size"], chunk["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
        # And so the portal's own Hub dialect has files, not a card alone.
        tree = client.get(f"/api/models/{RUN}/tree/step-10").json()
        assert {row["path"] for row in tree} >= {"model.safetensors", "optimizer.bin", "README.md"}
        assert client.head(f"/{RUN}/resolve/step-10/model.safetensors").headers["x-linked-size"] == "1010"
    app.state.desk.close()
    # Remembered: without the Hub, and without asking, the same release comes out.
    away = with_hub(settings, address)
    assert publish(manifest, away, engine).state == "unchanged"


def test_a_portal_elsewhere_asks_its_own_hub(
    sqlite_settings: Settings,
    tmp_path: Path,
    other_portal: tuple[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = with_hub(sqlite_settings, other_portal[0])
    engine = create_database_engine(asked)
    monkeypatch.setenv("PORTAL_TOKEN", create_token(engine, "publisher", "ada")[0])
    monkeypatch.setenv("PORTAL_DATA", str(tmp_path / "mine"))
    engine.dispose()
    manifest = pointing(tmp_path / "release")

    def send(*more: str) -> dict[str, Any]:
        assert main(["publish", str(manifest), "--to", url, "--json", *more]) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    app = create_app(asked)
    with running(app) as url:
        assert send("--look-up", "--dry-run")["state"] == "dry-run"
        bare = send()
        assert (bare["state"], bare["answer"]["files"]) == ("published", 1)
        assert any("--look-up" in sentence for sentence in bare["answer"]["plan"])
        full = send("--look-up")
        assert (full["state"], full["version"], full["sent"]) == ("published", 2, [])
        stated = next(f for f in full["findings"] if f["code"] == "digests-stated-by-hub")
        assert stated["evidence"]["commits"] == 5
        # What the Hub said is remembered there: the same release is the same without asking.
        assert send()["state"] == "unchanged"
        refused = httpx.post(
            f"{url}/api/v1/releases",
            json={"manifest": {}, "files": {}, "look_up": 1},
            headers={"Authorization": f"Bearer {os.environ['PORTAL_TOKEN']}"},
        )
        assert (refused.status_code, "`look_up`" in refused.text) == (400, True)


def test_a_hub_that_does_not_answer_leaves_it_unknown(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    report = publish(pointing(tmp_path / "release"), with_hub(settings, "http://127.0.0.1:1"), engine, ask_hub=True)
    assert (report.state, report.files) == ("published", 1)
    lost = findings(report)["hub-not-looked-up"]
    assert (lost.severity, lost.evidence["count"]) == ("warning", 5)
    assert any("could not be looked up" in sentence for sentence in report.plan)


def test_small_files_are_fetched_once_for_their_sha256(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    hub = GitHub(commits={f"step-{step}": f"{step:040x}" for step in (5, 10, 15, 20)})
    hub.held = {"config.json": b'{"model_type": "llama"}', "lying.json": b"{}"}
    with serving(hub.storage_files) as storage, serving(hub) as address:
        hub.storage = storage
        asked = with_hub(settings, address)
        manifest = pointing(tmp_path / "release", "lab/run", data={"chunks": []})
        report = publish(manifest, asked, engine, ask_hub=True)
    assert report.files == 8
    assert sum("/resolve/" in path and "config.json" in path for _, path, _ in hub.asked) <= 4
    app = create_app(asked)
    with TestClient(app) as client:
        files = {f["path"]: f for f in client.get(f"/api/v1/runs/{RUN}/checkpoints/10").json()["files"]}
    app.state.desk.close()
    assert files["config.json"]["sha256"] == hashlib.sha256(hub.held["config.json"]).hexdigest()
    # Its bytes are not those of the git id the Hub states.
    assert (files["lying.json"]["sha256"], files["lying.json"]["size"]) == (None, 2)


class GitHub(Hub):
    """A Hub whose files are no LFS files: it states their git ids, one of them wrongly."""

    def oid_of(self, path: str) -> str:
        """What the tree says."""
        data = self.held[path] if path != "lying.json" else b"other"
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
