"""Files by their sha256: ranges, conditions, digests, and files that are no longer what they were."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.errors import RangeNotSatisfiable
from portal.settings import Settings
from portal.web.app import create_app
from portal.web.sending import ByteRange, parse_range
from tests.builders import SmallRun, many_checkpoints, small_run


@pytest.fixture
def body(small: SmallRun) -> bytes:
    return (small.folder / "step10" / "model.safetensors").read_bytes()


@pytest.fixture
def url(body: bytes) -> str:
    return f"/files/{hashlib.sha256(body).hexdigest()}/model.safetensors"


def test_a_whole_file_with_its_digest(client: TestClient, url: str, body: bytes) -> None:
    answer = client.get(url)
    digest = hashlib.sha256(body)
    assert answer.content == body
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert answer.headers["content-length"] == str(len(body))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''model.safetensors"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_the_addresses_that_the_api_hands_out_work(client: TestClient, small: SmallRun) -> None:
    pair = client.get("/api/v1/runs/lab/small/steps/5/pair").json()
    for file in pair["files"]:
        assert hashlib.sha256(client.get(file["url"]).content).hexdigest() == file["sha256"]


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=1000-", 1000, 1009),
        ("bytes=-10", 1000, 1009),
        ("bytes=-99999", 0, 1009),
        ("bytes=1000-99999", 1000, 1009),
    ],
)
def test_one_range(client: TestClient, url: str, body: bytes, header: str, first: int, last: int) -> None:
    answer = client.get(url, headers={"Range": header})
    assert answer.status_code == 206
    assert answer.content == body[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/1010"
    assert answer.headers["content-length"] == str(last - first + 1)
    assert "repr-digest" in answer.headers


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-1,5-6",
        "bytes=5-4",
        "bytes=-",
        "bytes=x-y",
        "lines=0-1",
        "bytes=0-" + "9" * 300,
        "bytes=" + "0-0," * 4000,
    ],
)
def test_ranges_that_are_answered_whole(client: TestClient, url: str, body: bytes, header: str) -> None:
    answer = client.get(url, headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, body)


@pytest.mark.parametrize("header", ["bytes=1010-", "bytes=5000-6000", "bytes=-0"])
def test_ranges_outside_the_file(client: TestClient, url: str, body: bytes, header: str) -> None:
    answer = client.get(url, headers={"Range": header})
    assert (answer.status_code, answer.json()["code"]) == (416, "range-not-satisfiable")
    assert answer.headers["content-range"] == "bytes */1010"


def test_if_range_and_if_none_match(client: TestClient, url: str, body: bytes) -> None:
    etag = client.get(url).headers["etag"]
    span = {"Range": "bytes=0-3"}
    assert client.get(url, headers=span | {"If-Range": etag}).status_code == 206
    assert client.get(url, headers=span | {"If-Range": '"other"'}).content == body
    assert client.get(url, headers=span | {"If-Range": "Sat, 21 Nov 2026 10:00:00 GMT"}).content == body
    assert client.get(url, headers={"If-None-Match": f'"x", {etag}'}).status_code == 304
    assert client.get(url, headers={"If-None-Match": "*"}).status_code == 304


def test_head_tells_the_size_and_sends_nothing(client: TestClient, url: str, body: bytes) -> None:
    head = client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "1010")
    part = client.head(url, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content, part.headers["content-length"]) == (206, b"", "10")


def test_a_name_that_is_not_the_files_is_not_echoed(client: TestClient, url: str) -> None:
    answer = client.get(url.replace("model.safetensors", "evil%22.html"))
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''model.safetensors"


@pytest.mark.parametrize(
    "path", ["/files/../x/y", "/files/%2e%2e/x", "/files/{sha}%2f..%2f..%2fetc/passwd", "/files/{SHA}/x"]
)
def test_only_catalogued_digests_are_looked_up(client: TestClient, url: str, path: str) -> None:
    sha = url.split("/")[2]
    answer = client.get(path.replace("{sha}", sha).replace("{SHA}", sha.upper()))
    assert answer.status_code in (400, 404)


def test_a_file_of_another_size_is_not_sent(client: TestClient, small: SmallRun, url: str) -> None:
    (small.folder / "step10" / "model.safetensors").write_bytes(b"short")
    answer = client.get(url)
    assert (answer.status_code, answer.json()["code"]) == (409, "integrity")
    assert "changed since it was published" in answer.json()["detail"]


def test_a_touched_file_is_sent_without_a_promise(client: TestClient, small: SmallRun, url: str, body: bytes) -> None:
    os.utime(small.folder / "step10" / "model.safetensors", ns=(1, 1))
    answer = client.get(url)
    assert answer.content == body
    assert "repr-digest" not in answer.headers


def test_a_file_that_is_gone(client: TestClient, small: SmallRun, url: str) -> None:
    (small.folder / "step10" / "model.safetensors").unlink()
    answer = client.get(url)
    assert (answer.status_code, answer.json()["code"]) == (404, "file-missing")
    assert str(small.folder) not in answer.text


def test_an_empty_file(engine: Engine, settings: Settings, app: object, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "empty.bin").write_bytes(b"")
    checkpoint = {"step": 1, "files": [{"path": "empty.bin", "role": "other"}]}
    small_run(engine, settings, folder, checkpoints=[checkpoint])
    client = TestClient(app)  # type: ignore[arg-type]
    url = f"/files/{hashlib.sha256(b'').hexdigest()}/empty.bin"
    answer = client.get(url)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    assert client.get(url, headers={"Range": "bytes=0-0"}).status_code == 416


def test_remote_files_are_redirected_to(engine: Engine, settings: Settings, app: object) -> None:
    digest = "ab" * 32
    file = {"path": "hf://lab/model@step-10/sub/model.bin", "sha256": digest, "size": 5, "role": "weights"}
    private = {"path": "s3://bucket/model.bin", "sha256": "cd" * 32, "size": 5, "role": "weights"}
    settings = settings.model_copy(update={"s3_buckets": "another"})
    app.state.desk = replace(app.state.desk, settings=settings)  # type: ignore[attr-defined]
    many_checkpoints(engine, settings, "lab/remote", 2, checkpoints=[{"step": 10, "files": [file, private]}])
    client = TestClient(app, follow_redirects=False)  # type: ignore[arg-type]
    answer = client.get(f"/files/{digest}/model.bin")
    assert answer.status_code == 302
    assert answer.headers["location"] == "https://huggingface.co/lab/model/resolve/step-10/sub/model.bin"
    refused = client.get(f"/files/{'cd' * 32}/model.bin")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")


def test_nginx_can_send_instead(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    small = small_run(engine, settings, tmp_path / "a folder")
    app = create_app(settings.model_copy(update={"sendfile": "xaccel"}))
    body = (small.folder / "step10" / "model.safetensors").read_bytes()
    answer = TestClient(app).get(f"/files/{hashlib.sha256(body).hexdigest()}/model.safetensors")
    assert answer.headers["x-accel-redirect"] == f"/_local{tmp_path}/a%20folder/step10/model.safetensors"
    assert answer.content == b""
    app.state.desk.close()


def test_large_files_arrive_whole(engine: Engine, settings: Settings, app: object, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    body = os.urandom(1 << 20) * 3 + b"tail"
    (folder / "large.bin").write_bytes(body)
    small_run(engine, settings, folder, checkpoints=[{"step": 1, "files": [{"path": "large.bin", "role": "other"}]}])
    client = TestClient(app)  # type: ignore[arg-type]
    url = f"/files/{hashlib.sha256(body).hexdigest()}/large.bin"
    assert client.get(url).content == body
    assert client.get(url, headers={"Range": "bytes=262143-1048577"}).content == body[262143:1048578]


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60), st.integers(0, 10**6))
def test_any_range_header_is_a_range_or_none(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        try:
            span = parse_range(header, size)
        except RangeNotSatisfiable:
            continue
        assert span is None or (0 <= span.first <= span.last < size)


@given(st.integers(1, 10**6), st.data())
def test_ranges_are_what_rfc_9110_says(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, 2 * size))
    assert parse_range(f"bytes={first}-{last}", size) == ByteRange(first, min(last, size - 1))
    assert parse_range(f"bytes={first}-", size) == ByteRange(first, size - 1)
    assert parse_range(f"bytes=-{last + 1}", size) == ByteRange(max(0, size - last - 1), size - 1)
