"""Bytes in the Hugging Face dialect: headers, ranges, redirects and refusals as clients need them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import SmallRun, record, small_run
from tests.web.hub import SHA, WEIGHTS, commit_of, refusal, remote_run, tree, weights_of


@pytest.fixture
def remote(client: TestClient, engine: Engine, settings: Settings) -> TestClient:
    remote_run(engine, settings)
    return client


def test_head_tells_everything_and_get_sends_it(client: TestClient, small: SmallRun) -> None:
    body = weights_of(small, 10)
    digest = hashlib.sha256(body).hexdigest()
    head, whole = client.head(WEIGHTS, headers={"Accept-Encoding": "identity"}), client.get(WEIGHTS)
    for answer in (head, whole):
        assert answer.status_code == 200
        assert answer.headers["x-repo-commit"] == commit_of(client, "step-10")
        assert answer.headers["etag"] == f'"{digest}"'
        assert answer.headers["content-length"] == str(len(body))
        assert answer.headers["accept-ranges"] == "bytes"
        assert "content-encoding" not in answer.headers
    assert (head.content, whole.content) == (b"", body)


@pytest.mark.parametrize("path", ["model.safetensors", "README.md", "tokenizer.json"])
def test_ranges_of_stored_and_of_written_files(client: TestClient, path: str) -> None:
    address = f"/lab/small/resolve/step-10/{path}"
    body = client.get(address).content
    part = client.get(address, headers={"Range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, body[3:10])
    assert part.headers["content-range"] == f"bytes 3-9/{len(body)}"
    assert client.get(address, headers={"Range": f"bytes=5-{len(body)}"}).content == body[5:]
    past = client.get(address, headers={"Range": f"bytes={len(body)}-"})
    assert past.status_code == 416
    assert past.headers["content-range"] == f"bytes */{len(body)}"
    assert client.get(address, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).content == body


@pytest.mark.parametrize("tag", ['"{}"', "W/{}", '"x", "{}"'])
def test_what_the_client_has_is_not_sent_again(client: TestClient, small: SmallRun, tag: str) -> None:
    digest = hashlib.sha256(weights_of(small, 10)).hexdigest()
    tag = tag.format(digest).replace(f"W/{digest}", f'W/"{digest}"')
    answer = client.get(WEIGHTS, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert "x-repo-commit" in answer.headers


def test_a_commit_may_be_kept_for_ever_and_a_branch_not(client: TestClient) -> None:
    commit = commit_of(client, "step-10")
    assert "immutable" in client.get(f"/lab/small/resolve/{commit}/model.safetensors").headers["cache-control"]
    assert client.get(WEIGHTS).headers["cache-control"] == "no-cache"


def test_what_is_missing_is_told_by_code(client: TestClient) -> None:
    absent = client.head("/lab/small/resolve/step-10/adapter_config.json")
    assert refusal(absent) == (404, "EntryNotFound")
    assert absent.headers["x-repo-commit"] == commit_of(client, "step-10")
    assert "adapter_config.json" in absent.headers["x-error-message"]
    assert refusal(client.get("/lab/small/resolve/step-11/model.safetensors")) == (404, "RevisionNotFound")
    assert refusal(client.get("/lab/nope/resolve/main/model.safetensors")) == (404, "RepoNotFound")
    assert refusal(client.get("/gpt2/resolve/main/config.json")) == (404, "RepoNotFound")
    assert refusal(client.get("/datasets/squad/resolve/main/README.md")) == (404, "RepoNotFound")
    assert client.get("/lab/nope/resolve/main/x").json()["error"]


def test_a_lost_file_is_not_remembered_as_one_that_never_was(client: TestClient, small: SmallRun) -> None:
    (small.folder / "step10" / "model.safetensors").unlink()
    assert refusal(client.get(WEIGHTS)) == (404, None)
    (small.folder / "step15" / "model.safetensors").write_bytes(b"other")
    assert refusal(client.get("/lab/small/resolve/step-15/model.safetensors")) == (409, None)


def test_nginx_sends_bytes_but_the_portal_answers_head(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    small = small_run(engine, settings, tmp_path / "release")
    app = create_app(settings.model_copy(update={"sendfile": "xaccel"}))
    client = TestClient(app)
    assert client.get(WEIGHTS).headers["x-accel-redirect"].endswith("/step10/model.safetensors")
    head = client.head(WEIGHTS)
    assert "x-accel-redirect" not in head.headers
    assert head.headers["content-length"] == str(len(weights_of(small, 10)))
    assert "x-repo-commit" in head.headers
    app.state.desk.close()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_redirect_tells_size_digest_and_commit_itself(remote: TestClient, method: str) -> None:
    answer = remote.request(method, "/lab/remote/resolve/c_1/model.safetensors", follow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["location"] == "https://huggingface.co/lab/model/resolve/c_1/model.safetensors"
    assert answer.headers["x-linked-size"] == "1000"
    assert answer.headers["x-linked-etag"] == answer.headers["etag"] == f'"{SHA}"'
    assert answer.headers["x-repo-commit"] == commit_of(remote, "step-20", run="lab/remote")


def test_what_nobody_vouches_for_is_named_and_not_served(remote: TestClient) -> None:
    assert "unknown.bin" not in tree(remote, "/api/models/lab/remote/tree/main")
    assert "unknown.bin`" in remote.get("/lab/remote/resolve/main/README.md").text
    assert refusal(remote.get("/lab/remote/resolve/main/unknown.bin")) == (404, "EntryNotFound")


def test_what_cannot_be_reached_is_said_so(remote: TestClient) -> None:
    # A bucket's address is signed for whoever asks; without keys it is the plain one.
    bucket = remote.get("/lab/remote/resolve/main/optimizer.pt", follow_redirects=False)
    assert bucket.headers["location"].startswith("https://bucket.s3.amazonaws.com/")
    # Within one host, clients follow a redirect before they have read its headers.
    assert refusal(remote.get("/lab/remote/resolve/main/here.bin", follow_redirects=False)) == (503, None)


def test_slashes_and_signs_in_revisions_and_paths(client: TestClient, engine: Engine, settings: Settings) -> None:
    names = ["fïle +%41.txt", "sub folder/ünï.txt", "100%.bin"]
    files = [{"path": f"https://elsewhere.org/ü/c%20/{k}", "size": 5, "sha256": SHA} for k in range(3)]
    folder = settings.data / "odd"
    for name in names:
        (folder / "c" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "c" / name).write_text("12345")
    document = {
        "run": "lab/odd",
        "checkpoints": [
            {"step": 5, "labels": ["stage1/step 5", "a%2Fb"], "files": [{"path": f"c/{name}"} for name in names]},
            {"step": 6, "files": files},
        ],
    }
    record(engine, settings, document, folder)
    away = client.head("/lab/odd/resolve/step-6/0", follow_redirects=False)
    assert away.headers["location"] == "https://elsewhere.org/%C3%BC/c%20/0"
    for revision in ("stage1%2Fstep%205", "a%252Fb"):
        for path in ("f%C3%AFle%20+%2541.txt", "sub%20folder/%C3%BCn%C3%AF.txt", "100%25.bin"):
            assert client.get(f"/lab/odd/resolve/{revision}/{path}").content == b"12345", path
        assert set(tree(client, f"/api/models/lab/odd/tree/{revision}?recursive=1")) >= {*names, "sub folder"}
        assert set(tree(client, f"/api/models/lab/odd/tree/{revision}/sub%20folder")) == {"sub folder/ünï.txt"}
