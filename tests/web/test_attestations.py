"""Signatures and provenance as the official verifiers see them, over folders that `portal pair` fetched."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.client import PairChoice, Portal, download_pair
from portal.database import create_database_engine
from portal.errors import IntegrityError
from portal.exchange.publish import publish
from portal.exchange.sign_release import sign_release
from portal.scan import scan_run
from portal.settings import Settings
from portal.signing import envelopes, models
from portal.signing.keys import load_key, make_key
from portal.web.app import create_app
from tests.builders import SmallRun, small_run
from tests.client.servers import running
from tests.conftest import REPOSITORY
from tests.exchange.releases import write_manifest, write_release
from tests.verifiers import verifier

CHECKPOINT = "/api/v1/runs/lab/small/checkpoints"
SCRIPT = REPOSITORY / "tests" / "check_provenance.py"


@pytest.fixture
def signing(sqlite_settings: Settings, tmp_path: Path) -> Settings:
    make_key(tmp_path / "key")
    return sqlite_settings.model_copy(update={"signing_key": tmp_path / "key"})


@pytest.fixture
def run(signing: Settings, tmp_path: Path) -> SmallRun:
    engine = create_database_engine(signing)
    found = small_run(engine, signing, tmp_path / "release")
    engine.dispose()
    return found


@pytest.fixture
def client(signing: Settings, run: SmallRun) -> Iterator[TestClient]:
    app = create_app(signing)
    yield TestClient(app, raise_server_exceptions=False)
    app.state.desk.close()


@pytest.fixture
def pair(signing: Settings, run: SmallRun, tmp_path: Path) -> Path:
    """A pair as `portal pair` fetches it, with the portal's current key beside it as ``portal.pub``."""
    with running(create_app(signing)) as url, Portal(url) as portal:
        report = download_pair(portal, "lab/small", 10, tmp_path / "pair", PairChoice("previous"))
        assert report.complete
        assert report.not_signed == []
        with portal.open_url("/.well-known/portal-keys/current") as answer:
            (tmp_path / "portal.pub").write_bytes(answer.read())
    return tmp_path / "pair"


def official(folder: Path, signature: Path, key: Path) -> subprocess.CompletedProcess[str]:
    command = [str(verifier("signatures") / "model_signing"), "verify", "key", str(folder)]
    command += ["--signature", str(signature), "--public_key", str(key)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_official_verifier_takes_checkpoint_and_pair_and_nothing_else(pair: Path, tmp_path: Path) -> None:
    key, checkpoint = tmp_path / "portal.pub", pair / "checkpoint"
    (checkpoint / ".cache").mkdir()
    (checkpoint / ".cache" / "hub").write_text("what the Hub's client leaves behind")
    done = official(checkpoint, pair / "model.sig", key)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(checkpoint / ".cache")
    done = official(pair, pair / "pair.sig", key)
    assert done.returncode == 0, done.stderr
    make_key(tmp_path / "foreign")
    assert official(checkpoint, pair / "model.sig", tmp_path / "foreign.pub").returncode != 0
    weights = checkpoint / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    assert official(checkpoint, pair / "model.sig", key).returncode != 0
    weights.write_bytes(good)
    (checkpoint / "added.bin").write_bytes(b"more")
    assert official(checkpoint, pair / "model.sig", key).returncode != 0
    (checkpoint / "added.bin").unlink()
    weights.unlink()
    assert official(checkpoint, pair / "model.sig", key).returncode != 0
    weights.write_bytes(good)
    (pair / "data" / "chunk_0.jsonl").write_text("{}")
    assert official(checkpoint, pair / "model.sig", key).returncode == 0
    assert official(pair, pair / "pair.sig", key).returncode != 0


def provenance(text: str, key: Path, tmp_path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """By securesystemslib and in-toto-attestation, in their own environment."""
    (tmp_path / "statement.json").write_text(text)
    command = [
        str(verifier("signatures") / "python"),
        str(SCRIPT),
        str(tmp_path / "statement.json"),
        str(key),
        str(folder),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_official_libraries_take_the_provenance_and_no_edited_one(pair: Path, tmp_path: Path) -> None:
    key, text = tmp_path / "portal.pub", (pair / "provenance.dsse.json").read_text()
    done = provenance(text, key, tmp_path, pair / "checkpoint")
    assert done.returncode == 0, done.stderr
    envelope = json.loads(text)
    edited = base64.b64decode(envelope["payload"]).replace(b"reconstructed", b"exact")
    edited = edited if edited != base64.b64decode(envelope["payload"]) else edited.replace(b"chunk_0", b"chunk_1")
    forged = json.dumps({**envelope, "payload": base64.b64encode(edited).decode()})
    assert "VerificationError" in provenance(forged, key, tmp_path, pair / "checkpoint").stderr
    make_key(tmp_path / "foreign")
    assert provenance(text, tmp_path / "foreign.pub", tmp_path, pair / "checkpoint").returncode != 0
    (pair / "checkpoint" / "optimizer.bin").write_bytes(b"other")
    assert "optimizer.bin" in provenance(text, key, tmp_path, pair / "checkpoint").stderr


def statement(client: TestClient, step: int | str, run: str = "lab/small") -> dict[str, Any]:
    answer = client.get(f"/api/v1/runs/{run}/checkpoints/{step}/provenance")
    assert answer.status_code == 200, answer.text
    return dict(json.loads(base64.b64decode(answer.json()["payload"])))


def test_the_statement_says_what_is_known_and_what_is_not(client: TestClient, run: SmallRun) -> None:
    told = statement(client, 15)
    assert [s["name"] for s in told["subject"]] == ["model.safetensors", "optimizer.bin"]
    built = told["predicate"]["buildDefinition"]
    assert "did not run or watch this training" in built["internalParameters"]["says"]
    assert (
        "The release names no full commit of the code, so the code is not pinned."
        in built["internalParameters"]["not_known"]
    )
    by_role: dict[str, list[dict[str, Any]]] = {}
    for dependency in built["resolvedDependencies"]:
        by_role.setdefault(dependency["annotations"]["role"], []).append(dependency)
    assert {d["name"] for d in by_role["config"]} == {"train.yaml", "settings from step 1"}
    assert by_role["code"][0]["uri"] == "https://example.org/code"
    data = by_role["data"]
    assert [d["annotations"]["read"][0]["steps"] for d in data] == ["11-15"]
    assert data[0]["annotations"]["read"][0]["rows"] == "0-19"
    assert data[0]["annotations"]["chunk"] == "chunk_1"
    assert data[0]["annotations"]["read"][0]["order"]["confidence"] in ("exact", "reconstructed")
    assert len(data[0]["digest"]["sha256"]) == 64
    assert [d["name"] for d in by_role["parent checkpoint"]] == ["step-10/model.safetensors", "step-10/optimizer.bin"]
    first = statement(client, 0)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {d["annotations"]["role"] for d in first} == {"config", "code"}
    assert statement(client, "ckpt_003") == told


def test_what_was_never_hashed_is_not_signed(signing: Settings, client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    files = [
        {"path": "w.bin", "size": 3, "role": "weights", "sha256": "a" * 64},
        {"path": "o.bin", "role": "optimizer"},
    ]
    at = "https://example.org/far"
    checkpoints = [{"step": 5, "location": at, "files": files[:1]}, {"step": 10, "location": at, "files": files}]
    manifest = {"format": "llm360-portal/release/1", "run": "lab/far", "training": {"last_step": 10}}
    (tmp_path / "far" / "release.json").write_text(json.dumps({**manifest, "checkpoints": checkpoints}))
    engine = create_database_engine(signing)
    publish(tmp_path / "far", signing, engine)
    engine.dispose()
    for name in ("model.sig", "provenance"):
        refused = client.get(f"/api/v1/runs/lab/far/checkpoints/10/{name}")
        assert (refused.status_code, refused.json()["code"]) == (409, "integrity")
    told = statement(client, 5, "lab/far")["predicate"]["buildDefinition"]["internalParameters"]
    assert told["digest_declared_not_read_by_the_portal"] == ["w.bin"]
    bundle = client.get("/api/v1/runs/lab/far/checkpoints/5/model.sig").json()
    signed = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))["predicate"]["attested"]
    assert signed["digest_declared_not_read_by_the_portal"] == ["w.bin"]


def test_keys_keep_their_history(signing: Settings, client: TestClient, tmp_path: Path) -> None:
    first = load_key(tmp_path / "key").public
    shown = client.get("/.well-known/portal-keys").json()
    assert [(k["key_id"], k["public_key"], k["current"]) for k in shown["keys"]] == [(first.key_id, first.pem, True)]
    assert "does not prove that the training really took place" in shown["proves"]
    second = make_key(tmp_path / "second").public
    app = create_app(signing.model_copy(update={"signing_key": tmp_path / "second"}))
    later = TestClient(app)
    keys = later.get("/.well-known/portal-keys").json()["keys"]
    assert [(k["key_id"], k["current"]) for k in keys] == [(second.key_id, True), (first.key_id, False)]
    assert later.get(f"/.well-known/portal-keys/{first.key_id}").text == first.pem
    assert later.get("/.well-known/portal-keys/current").text == second.pem
    assert later.get(f"/.well-known/portal-keys/{'0' * 64}").status_code == 404
    app.state.desk.close()


def test_a_portal_without_a_key_says_so(sqlite_settings: Settings, run: SmallRun, tmp_path: Path) -> None:
    app = create_app(sqlite_settings)
    client = TestClient(app)
    for name in ("model.sig", "provenance"):
        refused = client.get(f"{CHECKPOINT}/10/{name}")
        assert refused.status_code == 404
        assert "portal keygen" in refused.json()["remedy"]
    assert client.get("/.well-known/portal-keys").json()["keys"] == []
    app.state.desk.close()
    with running(create_app(sqlite_settings)) as url, Portal(url) as portal:
        report = download_pair(portal, "lab/small", 10, tmp_path / "pair")
    assert report.complete
    assert not list((tmp_path / "pair").glob("*.sig"))


def test_the_same_question_gets_the_same_signature(client: TestClient) -> None:
    first = client.get(f"{CHECKPOINT}/10/model.sig")
    assert first.headers["content-disposition"] == 'attachment; filename="model.sig"'
    again = client.get(f"{CHECKPOINT}/10/model.sig", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_a_key_that_cannot_sign_stops_the_portal(sqlite_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    with pytest.raises(Exception, match="no private key in PEM"):
        create_app(sqlite_settings.model_copy(update={"signing_key": tmp_path / "text"}))


def test_keys_are_kept_in_either_database(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    for _ in range(2):
        app = create_app(settings.model_copy(update={"signing_key": tmp_path / "key"}))
        assert len(TestClient(app).get("/.well-known/portal-keys").json()["keys"]) == 1
        app.state.desk.close()


def test_a_file_that_is_gone_or_changed_is_not_signed(client: TestClient, run: SmallRun, signing: Settings) -> None:
    (run.folder / "step10" / "optimizer.bin").unlink()
    (run.folder / "step15" / "optimizer.bin").write_bytes(b"other")
    engine = create_database_engine(signing)
    scan_run(engine, signing, "lab/small", deep=True)
    engine.dispose()
    gone, changed = (client.get(f"{CHECKPOINT}/{step}/model.sig").json() for step in (10, 15))
    assert gone["code"] == "file-missing"
    assert (changed["code"], "has changed since it was published" in changed["detail"]) == ("integrity", True)


def test_the_page_shows_who_signed_and_what_that_proves(client: TestClient, signing: Settings, tmp_path: Path) -> None:
    key = load_key(tmp_path / "key").public
    unsigned = client.get("/runs/lab/small/signatures").text
    assert "No publisher signed version 1" in unsigned
    assert key.key_id in unsigned
    assert ">signed</a>" not in client.get("/runs/lab/small").text
    write_release(tmp_path / "own", "lab/own")
    publisher = make_key(tmp_path / "publisher")
    engine = create_database_engine(signing)
    publish(tmp_path / "own", signing, engine)
    client.get("/runs/lab/own")
    signed = sign_release(tmp_path / "own", "lab/own", signing, engine, publisher)
    engine.dispose()
    assert signed.new
    assert ">signed</a>" in client.get("/runs/lab/own").text
    page = client.get("/runs/lab/own/signatures").text
    assert publisher.public.key_id in page
    assert "does not prove who that is" in page
    assert client.get("/api/v1/runs/lab/own").json()["signed_by"] == [publisher.public.key_id]
    [view] = client.get("/api/v1/runs/lab/own/signatures").json()
    assert (view["files"], view["unsigned"], view["version"]) == (signed.files, [], 1)
    bundle = client.get(view["url"])
    assert models.signed_files(envelopes.read(bundle.text).check(publisher.public))["release.yaml"]
    assert client.get("/api/v1/runs/lab/own/signatures/nobody").status_code == 404
    write_manifest(tmp_path / "own", "lab/own", title="Another")
    with pytest.raises(IntegrityError, match="is not the manifest of version 1"):
        sign_release(tmp_path / "own", "lab/own", signing, engine, publisher)
    engine.dispose()
