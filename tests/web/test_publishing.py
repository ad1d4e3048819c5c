"""Releases come in through the API: published once, or refused with everything that is wrong."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.exchange.sign_release import sign_files
from portal.signing.keys import make_key
from tests.client.servers import running
from tests.exchange.releases import write_release

HERE = "/api/v1/releases"


@pytest.fixture
def asking(app: FastAPI, engine: Engine) -> TestClient:
    secret, _ = create_token(engine, "publisher", "ada")
    return TestClient(app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {secret}"})


def body_of(release: Path, **changes: Any) -> dict[str, Any]:
    """The request for a release folder."""
    files = {}
    for path in sorted(p for p in release.rglob("*") if p.is_file() and p.name != "release.yaml"):
        data = path.read_bytes()
        files[path.relative_to(release).as_posix()] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    return {"manifest": (release / "release.yaml").read_text(), "files": files, "name": "release.yaml"} | changes


def send_all(asking: TestClient, release: Path) -> dict[str, Any]:
    """The request, after every file was sent."""
    body = body_of(release)
    for path, file in body["files"].items():
        assert asking.put(f"/api/v1/blobs/{file['sha256']}", content=(release / path).read_bytes()).status_code in (
            200,
            201,
        )
    return body


def test_what_is_missing_is_told_then_it_is_published(asking: TestClient, tmp_path: Path) -> None:
    release = write_release(tmp_path / "release")
    body = body_of(release)
    told = asking.post(f"{HERE}/check", json=body).json()
    contents = {file["sha256"]: file["size"] for file in body["files"].values()}
    assert {m["sha256"]: m["size"] for m in told["missing"]} == contents
    assert (told["run"], told["version"], told["missing_bytes"]) == ("lab/small", 0, sum(contents.values()))
    refused = asking.post(HERE, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "missing-blobs")
    assert refused.json()["missing"] == told["missing"]
    assert asking.get("/api/v1/runs/lab/small").status_code == 404
    send_all(asking, release)
    assert asking.post(f"{HERE}/check", json={"files": body["files"]}).json()["missing"] == []
    answer = asking.post(HERE, json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["run"], made["version"], made["state"], made["findings"]) == ("lab/small", 1, "published", [])
    assert asking.get("/api/v1/runs/lab/small").json()["published_by"] == "ada"
    page = asking.get(made["url"])
    assert page.status_code == 200
    assert re.search(r"version 1, published <time[^>]*>[^<]*</time> by ada<", page.text)
    again = asking.post(HERE, json=body)
    assert (again.status_code, again.json()["state"], again.json()["version"]) == (200, "unchanged", 1)
    step = asking.get("/api/v1/runs/lab/small/steps/7/tokens", params={"text": "false"}).json()
    assert step["rows_total"] == 4
    file = asking.get("/api/v1/runs/lab/small/checkpoints/10").json()["files"][0]
    got = asking.get(file["url"])
    assert hashlib.sha256(got.content).hexdigest() == file["sha256"]
    series = asking.get("/api/v1/runs/lab/small/metrics/data", params={"series": "loss"})
    assert series.json()["series"][0]["points"] == 20


@pytest.mark.parametrize("media", ["application/yaml", "application/json"])
def test_a_manifest_alone_that_tells_digests_itself(asking: TestClient, tmp_path: Path, media: str) -> None:
    release = write_release(tmp_path / "release")
    files = send_all(asking, release)["files"]
    document = yaml.safe_load((release / "release.yaml").read_text())
    document["metrics"] = [{"file": "train.csv", **files["train.csv"]}]
    names = ("model.safetensors", "optimizer.bin")
    document["checkpoints"] = [
        {
            "step": 5,
            "location": "checkpoints/step-5",
            "files": [{"path": name, **files[f"checkpoints/step-5/{name}"]} for name in names],
        }
    ]
    for k, chunk in enumerate(document["data"]["chunks"]):
        chunk["files"] = [{"path": f"data/part_{k}.jsonl", **files[f"data/part_{k}.jsonl"]}]
    refused = asking.post(HERE, json=document)
    assert refused.status_code == 422
    assert {f["where"] for f in refused.json()["faults"]} == {"evaluations[0].file", "configs[0].file"}
    del document["evaluations"], document["configs"]
    if media.endswith("json"):
        answer = asking.post(HERE, json=document)
    else:
        answer = asking.post(HERE, content=yaml.safe_dump(document), headers={"Content-Type": media})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["files"], answer.json()["checkpoints"]) == (5, 1)


def test_every_fault_is_told_and_nothing_is_visible(asking: TestClient, tmp_path: Path) -> None:
    body = send_all(asking, write_release(tmp_path / "release"))
    document = yaml.safe_load(body["manifest"]) | {"run": "small", "training": {"last_step": -1}}
    files = body["files"] | {"../../etc/passwd": {"sha256": "a" * 64, "size": 3}, "odd": {"sha256": 7}}
    for path in (HERE, f"{HERE}/check"):
        answer = asking.post(path, json={"manifest": document, "files": files})
        assert (answer.status_code, answer.json()["code"]) == (422, "manifest-refused")
        where = {fault["where"] for fault in answer.json()["faults"]}
        assert where >= {"run", "training.last_step", "files['../../etc/passwd']", "files['odd']"}
    assert asking.get("/api/v1/runs").json()["items"] == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b'{"manifest": 3}',
        b'{"manifest": "x", "files": []}',
        b'{"manifest": "x", "files": {"a": 1}}',
        b'{"manifest": "x", "files": {}, "after": "1"}',
        b'{"manifest": "x", "files": {}, "name": "a/b"}',
        b'{"manifest": "x", "files": {}, "signature": {"bundle": 1}}',
        b"\xff\xfe",
        b'{"manifest": "' + b"[" * 5000 + b'", "files": {}}',
        b'{"a": "\\ud800"}',
    ],
)
def test_bodies_that_are_no_release(asking: TestClient, content: bytes) -> None:
    for path in (HERE, f"{HERE}/check"):
        answer = asking.post(path, content=content)
        assert answer.status_code in (400, 422), (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_of_any_size_is_not_read(asking: TestClient) -> None:
    app: Any = asking.app
    desk = app.state.desk
    app.state.desk = type(desk)(desk.settings.model_copy(update={"max_manifest_bytes": 1000}), desk.engine, desk.key)
    assert asking.post(HERE, content=b"x" * 1001).status_code == 413


def test_the_same_key_gets_the_same_answer(asking: TestClient, engine: Engine, tmp_path: Path) -> None:
    body = send_all(asking, write_release(tmp_path / "release"))
    key = {"Idempotency-Key": "one"}
    missing = body | {"files": body["files"] | {"train.yaml": {"sha256": "a" * 64, "size": 1}}}
    assert asking.post(HERE, json=missing, headers=key).json()["code"] == "missing-blobs"
    first = asking.post(HERE, json=body, headers=key)
    assert first.status_code == 201
    again = asking.post(HERE, json=body, headers=key)
    assert (again.status_code, again.content) == (201, first.content)
    other = asking.post(HERE, json=body | {"after": 1}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    bob, _ = create_token(engine, "publisher", "bob")
    theirs = asking.post(HERE, json=body | {"after": 1}, headers=key | {"Authorization": f"Bearer {bob}"})
    assert theirs.json()["state"] == "unchanged"
    for wrong in (b"", b" ", b"x" * 201, "ä".encode()):
        assert asking.post(HERE, json=body, headers={b"Idempotency-Key": wrong}).status_code == 400


def test_a_token_of_one_organisation(asking: TestClient, engine: Engine, tmp_path: Path) -> None:
    body = send_all(asking, write_release(tmp_path / "release"))
    for organisation, status in (("other", 403), ("la", 403), ("lab", 201)):
        secret, _ = create_token(engine, "publisher", organisation=organisation)
        headers = {"Authorization": f"Bearer {secret}"}
        assert asking.post(f"{HERE}/check", json=body, headers=headers).status_code == (200 if status == 201 else 403)
        assert asking.post(HERE, json=body, headers=headers).status_code == status


def test_a_signature_comes_along(asking: TestClient, tmp_path: Path) -> None:
    release = write_release(tmp_path / "release")
    body = send_all(asking, release)
    key = make_key(tmp_path / "key")
    table = {path: file["sha256"] for path, file in body["files"].items()}
    table["release.yaml"] = hashlib.sha256((release / "release.yaml").read_bytes()).hexdigest()
    made = sign_files("lab/small", table, [], key)
    signature = {"public_key": made.public_key, "bundle": made.bundle}
    spoilt = signature | {"bundle": made.bundle.replace('"sig": "', '"sig": "AA')}
    assert asking.post(HERE, json=body | {"signature": spoilt}).status_code in (409, 422)
    assert asking.get("/api/v1/runs/lab/small").status_code == 404
    assert asking.post(HERE, json=body | {"signature": signature}).status_code == 201
    kept = asking.get("/api/v1/runs/lab/small/signatures").json()
    assert [s["key_id"] for s in kept] == [key.public.key_id]


@pytest.mark.parametrize("same", [True, False])
def test_of_two_racing_exactly_one_wins(app: FastAPI, asking: TestClient, tmp_path: Path, same: bool) -> None:
    body = send_all(asking, write_release(tmp_path / "release"))
    manifests = [body["manifest"] + ("" if same else f"description: by {who}\n") for who in "abcd"]
    token = asking.headers["authorization"]

    def publish(url: str, manifest: str) -> tuple[int, dict[str, Any]]:
        asked = body | {"manifest": manifest, "after": 0}
        answer = httpx.post(f"{url}{HERE}", json=asked, headers={"Authorization": token}, timeout=60)
        return answer.status_code, answer.json()

    with running(app) as url, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda manifest: publish(url, manifest), manifests))
    states = [status for status, _ in answers]
    assert sorted(states) == ([200, 200, 200, 201] if same else [201, 409, 409, 409]), answers
    for status, told in answers:
        assert told["version"] == 1
        assert status != 409 or told["code"] == "version-taken"
    won = manifests[states.index(201)]
    shown = asking.get("/api/v1/runs/lab/small").json()
    assert shown["description"] == yaml.safe_load(won).get("description", "")
