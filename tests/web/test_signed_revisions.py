"""A signed checkpoint as clients of the Hub fetch it: what they downloaded is verified offline."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import snapshot_download
from starlette.testclient import TestClient

from portal.catalog.repositories import MODELS, find_revision
from portal.cli import main
from portal.client import verify_folder
from portal.database import create_database_engine, open_session
from portal.scan.verify import Plan, verify_run
from portal.settings import Settings
from portal.signing.keys import load_public_key, make_key
from portal.web.app import create_app
from tests.builders import SmallRun, small_run
from tests.client.servers import running
from tests.verifiers import verifier
from tests.web.hub import remote_run

RUN = "lab/small"


@pytest.fixture
def run(sqlite_settings: Settings, tmp_path: Path) -> SmallRun:
    engine = create_database_engine(sqlite_settings)
    found = small_run(engine, sqlite_settings, tmp_path / "release")
    remote_run(engine, sqlite_settings)
    engine.dispose()
    return found


@pytest.fixture
def signing(sqlite_settings: Settings, run: SmallRun, tmp_path: Path) -> Settings:
    make_key(tmp_path / "key")
    return sqlite_settings.model_copy(update={"signing_key": tmp_path / "key"})


@pytest.fixture
def client(signing: Settings) -> Iterator[TestClient]:
    app = create_app(signing)
    yield TestClient(app, raise_server_exceptions=False)
    app.state.desk.close()


@pytest.fixture
def snapshot(signing: Settings, tmp_path: Path) -> Path:
    """Step 10, in a folder and in the client's own cache, where every file is a link."""
    with running(create_app(signing)) as url:
        told: dict[str, Any] = {"revision": "step-10", "endpoint": url, "cache_dir": tmp_path / "cache"}
        snapshot_download(RUN, **told)
        return Path(snapshot_download(RUN, **told, local_dir=tmp_path / "snapshot"))


def official(folder: Path, key: Path, *more: str) -> bool:
    command = [str(verifier("signatures") / "model_signing"), "verify", "key", str(folder), *more]
    command += ["--signature", str(folder / "model.sig"), "--public_key", str(key)]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_a_snapshot_is_verified_by_what_lies_in_it(snapshot: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pub"
    (cached,) = (tmp_path / "cache" / "models--lab--small" / "snapshots").iterdir()
    report = verify_folder(snapshot, keys=[load_public_key(key)])
    assert (report.kind, report.run, report.vouched, report.all_verified) == ("checkpoint", RUN, True, True)
    assert {f.path for f in report.files} >= {"README.md", "optimizer.bin", "model.safetensors"}
    assert verify_folder(cached, keys=[load_public_key(key)]).vouched
    assert official(snapshot, key)
    assert official(cached, key, "--allow_symlinks")


def test_whatever_is_done_to_a_snapshot_is_seen(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, foreign = tmp_path / "key.pub", make_key(tmp_path / "foreign").public
    assert main(["verify", str(snapshot)]) == 0
    assert "Every file is what model.sig says; whose word that is, only --key tells." in capsys.readouterr().out
    assert main(["verify", str(snapshot), "--key", str(key)]) == 0
    assert main(["verify", str(snapshot), "--url", "http://127.0.0.1:1"]) == 2
    assert not verify_folder(snapshot, keys=[foreign]).vouched
    flipped, added, dropped = (shutil.copytree(snapshot, tmp_path / name) for name in ("flipped", "added", "dropped"))
    weights = bytearray((flipped / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (flipped / "model.safetensors").write_bytes(weights)
    (added / "more.bin").write_bytes(b"more")
    (dropped / "optimizer.bin").unlink()
    for folder, told in ((flipped, "changed"), (added, "unexpected"), (dropped, "missing")):
        report = verify_folder(folder, keys=[load_public_key(key)])
        assert (report.vouched, set(report.counts)) == (False, {"verified", told})
        assert not official(folder, key)


def test_the_signature_is_listed_like_any_file_and_changes_no_commit(
    client: TestClient, signing: Settings, tmp_path: Path
) -> None:
    told = client.get(f"/api/models/{RUN}/revision/step-10?blobs=true").json()
    (row,) = [s for s in told["siblings"] if s["rfilename"] == "model.sig"]
    head = client.head(f"/{RUN}/resolve/{told['sha']}/model.sig")
    assert head.headers["etag"] == f'"{row["lfs"]["sha256"]}"'
    assert int(head.headers["content-length"]) == row["size"] == len(client.get(head.url.path).content)
    names = {r["path"] for r in client.get(f"/api/models/{RUN}/tree/step-10").json()}
    assert names == {s["rfilename"] for s in client.get(f"/api/models/{RUN}/revision/step-10").json()["siblings"]}
    assert "model.sig" in names
    make_key(tmp_path / "next")
    app = create_app(signing.model_copy(update={"signing_key": tmp_path / "next"}))
    other = TestClient(app).get(f"/api/models/{RUN}/revision/step-10?blobs=true").json()
    app.state.desk.close()
    assert other["sha"] == told["sha"]
    assert [s for s in other["siblings"] if s["rfilename"] == "model.sig"] != [row]


def test_what_cannot_be_vouched_for_is_not_signed(
    client: TestClient, signing: Settings, run: SmallRun, sqlite_settings: Settings
) -> None:
    def signed(address: str, asked: TestClient = client) -> bool:
        answer = asked.get(address)
        assert answer.status_code == 200
        return "model.sig" in {s["rfilename"] for s in answer.json()["siblings"]}

    # One of its files has no sha256; data is signed as a release.
    assert not signed("/api/models/lab/remote/revision/step-10")
    assert not signed(f"/api/datasets/{RUN}")
    weights = run.folder / "step10" / "model.safetensors"
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    engine = create_database_engine(signing)
    with open_session(engine) as session:
        before = find_revision(session, MODELS, RUN, "step-10").commit
    verify_run(engine, signing, RUN, Plan(hash_local=True))
    engine.dispose()
    told = client.get(f"/api/models/{RUN}/revision/step-10").json()
    assert (told["sha"], "model.sig" in {s["rfilename"] for s in told["siblings"]}) == (before, False)
    assert client.get(f"/{RUN}/resolve/step-10/model.sig").headers["x-error-code"] == "EntryNotFound"
    app = create_app(sqlite_settings)
    assert not signed(f"/api/models/{RUN}/revision/step-5", TestClient(app))
    app.state.desk.close()
