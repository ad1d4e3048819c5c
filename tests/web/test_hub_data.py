"""Commits of the Hugging Face dialect, and data as a repository: all of it, or what one step read."""

from __future__ import annotations

import hashlib
import io
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.settings import Settings
from portal.web.hub import step_files
from tests.builders import SMALL, SmallRun, record, small_run
from tests.web.hub import WEIGHTS, commit_of, refusal, remote_run, tree, weights_of


@pytest.fixture
def remote(client: TestClient, engine: Engine, settings: Settings) -> TestClient:
    remote_run(engine, settings)
    return client


def test_a_commit_is_found_again_and_belongs_to_one_run(
    client: TestClient, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    commit = commit_of(client, "step-10")
    assert commit_of(client, commit) == commit
    assert client.get(f"/lab/small/resolve/{commit}/model.safetensors").content == client.get(WEIGHTS).content
    small_run(engine, settings, tmp_path / "twin", "lab/twin")
    assert refusal(client.get(f"/api/models/lab/twin/revision/{commit}")) == (404, "RevisionNotFound")
    assert commit_of(client, "step-10", run="lab/twin") != commit
    data = commit_of(client, "step-3", "datasets")
    assert commit_of(client, data, "datasets") == data
    assert refusal(client.get(f"/api/models/lab/small/revision/{data}")) == (404, "RevisionNotFound")


def test_a_commit_outlives_a_new_version(
    client: TestClient, engine: Engine, settings: Settings, small: SmallRun
) -> None:
    kept, changed = commit_of(client, "step-5"), commit_of(client, "step-10")
    data = commit_of(client, "step-3", "datasets")
    old = weights_of(small, 10)
    folder = small.folder.parent / "second"
    shutil.copytree(small.folder, folder)
    (folder / "step10" / "model.safetensors").write_bytes(b"new" * 10)
    record(engine, settings, SMALL | {"run": "lab/small"}, folder)
    assert commit_of(client, "step-5") == kept
    assert commit_of(client, "step-10") != changed
    assert client.get(WEIGHTS).content == b"new" * 10
    assert client.get(f"/lab/small/resolve/{changed}/model.safetensors").content == old
    assert commit_of(client, data, "datasets") == data


def test_the_data_of_a_step_is_what_it_read(client: TestClient, small: SmallRun) -> None:
    address = "/datasets/lab/small/resolve/step-11/data/step-11.parquet"
    body = client.get(address).content
    rows = pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()
    assert [row["token_ids"] for row in rows] == small.rows[40:44].tolist()
    assert [(row["position"], row["chunk"], row["row"], row["source"]) for row in rows] == [
        (k, "chunk_1", k, "s1") for k in range(4)
    ]
    shown = tree(client, "/api/datasets/lab/small/tree/step-11?recursive=1")["data/step-11.parquet"]
    assert (shown["size"], shown["lfs"]["oid"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert client.get(address, headers={"Range": "bytes=-4"}).content == b"PAR1"
    assert "data/step-11.parquet" in client.get("/datasets/lab/small/resolve/step-11/README.md").text


def test_the_file_of_a_step_is_the_same_whenever_it_is_made(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "/datasets/lab/small/resolve/step-{0}/data/step-{0}.parquet"
    first = client.get(address.format(2))
    (made,) = (settings.data / "store" / "step-files").iterdir()
    made.unlink()
    assert client.get(address.format(2)).content == first.content
    monkeypatch.setattr(step_files, "KEPT_BYTES", 1)
    client.get(address.format(3))
    assert [p.stem for p in (settings.data / "store" / "step-files").iterdir()] == [
        commit_of(client, "step-3", "datasets")
    ]
    assert client.get(address.format(2)).headers["etag"] == first.headers["etag"]


def test_all_data_is_the_chunks_as_released(client: TestClient, small: SmallRun) -> None:
    rows = tree(client, "/api/datasets/lab/small/tree/main")
    assert list(rows) == ["README.md", "chunk_0.jsonl", "chunk_1.jsonl"]
    body = (small.folder / "chunk_0.jsonl").read_bytes()
    assert client.get("/datasets/lab/small/resolve/main/chunk_0.jsonl").content == body
    assert "- chunk_0.jsonl" in client.get("/datasets/lab/small/resolve/main/README.md").text


def test_data_that_cannot_be_read_here_says_why(remote: TestClient) -> None:
    answer = remote.get("/api/datasets/lab/remote/revision/step-3")
    assert refusal(answer) == (404, "RevisionNotFound")
    assert "not on this machine" in answer.headers["x-error-message"]
    assert [b["name"] for b in remote.get("/api/datasets/lab/remote/refs").json()["branches"]] == ["main"]


def test_a_row_that_cannot_be_read_makes_no_file_with_a_hole(
    client: TestClient, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    broken = small_run(engine, settings, tmp_path / "broken", "lab/broken")
    text = (broken.folder / "chunk_0.jsonl").read_text()
    place = text.index("[", 5)
    (broken.folder / "chunk_0.jsonl").write_text(text[:place] + "x" + text[place + 1 :])
    answer = client.get("/datasets/lab/broken/resolve/step-1/data/step-1.parquet")
    assert answer.status_code in (409, 422)
    assert not list((settings.data / "store").glob("step-files/*"))
