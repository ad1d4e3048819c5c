"""Files come in through the API: whole, in pieces, broken off, wrong, too large, too slow."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.settings import Settings
from portal.storage.blobs import open_blobs
from portal.web.app import create_app
from tests.client.servers import running
from tests.seaweed import BUCKET, SeaweedServer

DATA = bytes(range(256)) * 40_000
NAME = hashlib.sha256(DATA).hexdigest()
HERE = f"/api/v1/blobs/{NAME}"


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("seaweed"))])
def own(request: pytest.FixtureRequest, sqlite_settings: Settings) -> Settings:
    if request.param == "folder":
        return sqlite_settings
    server: SeaweedServer = request.getfixturevalue("s3_server")
    place = {"storage_url": f"s3://{BUCKET}/{uuid4().hex}", "s3_endpoint": server.endpoint}
    return sqlite_settings.model_copy(update=place)


@pytest.fixture
def app(own: Settings) -> Iterator[FastAPI]:
    app = create_app(own)
    yield app
    app.state.desk.close()


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    secret, _ = create_token(app.state.desk.engine, "publisher")
    return TestClient(app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {secret}"})


def limited(client: TestClient, **changes: object) -> None:
    """The same portal with other limits."""
    app = client.app
    desk = app.state.desk  # type: ignore[attr-defined]
    app.state.desk = type(desk)(desk.settings.model_copy(update=changes), desk.engine, desk.key)  # type: ignore[attr-defined]


def test_a_whole_file(client: TestClient, own: Settings) -> None:
    assert client.head(HERE).status_code == 404
    answer = client.put(HERE, content=DATA)
    assert (answer.status_code, answer.json()) == (201, {"sha256": NAME, "size": len(DATA)})
    seen = client.head(HERE)
    assert (seen.status_code, seen.headers["upload-offset"], seen.headers["upload-complete"]) == (
        200,
        str(len(DATA)),
        "?1",
    )
    assert client.put(HERE, content=DATA).status_code == 200
    blobs = open_blobs(own)
    assert blobs.has(NAME) == len(DATA)
    empty = hashlib.sha256(b"").hexdigest()
    assert client.put(f"/api/v1/blobs/{empty}", content=b"").status_code == 201
    assert blobs.has(empty) == 0


def test_pieces_by_both_kinds_of_headers(client: TestClient, own: Settings) -> None:
    size, third = len(DATA), len(DATA) // 3
    first = client.put(HERE, content=DATA[:third], headers={"Content-Range": f"bytes 0-{third - 1}/{size}"})
    assert (first.status_code, first.headers["upload-offset"]) == (202, str(third))
    seen = client.head(HERE, params={"size": size})
    assert (seen.headers["upload-offset"], seen.headers["upload-length"]) == (str(third), str(size))
    assert seen.headers["upload-complete"] == "?0"
    assert client.head(HERE).status_code == 404
    wrong = client.put(HERE, content=DATA[:9], headers={"Upload-Offset": "0", "Upload-Length": str(size)})
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["received"]) == (409, "offset-mismatch", third)
    asked = client.put(HERE, content=b"", headers={"Upload-Offset": str(third), "Upload-Length": str(size)})
    assert (asked.status_code, asked.headers["upload-offset"]) == (202, str(third))
    rest = {"Upload-Offset": str(third), "Upload-Length": str(size)}
    assert client.put(HERE, content=DATA[third:], headers=rest).status_code == 201
    assert open_blobs(own).has(NAME) == size
    assert not list((own.data / "store" / "uploads").iterdir())


def test_a_body_of_unknown_length(client: TestClient, own: Settings) -> None:
    def pieces() -> Iterator[bytes]:
        yield DATA[:100]
        yield DATA[100:]

    assert client.put(HERE, content=pieces(), headers={"Upload-Length": str(len(DATA))}).status_code == 201
    assert open_blobs(own).has(NAME) == len(DATA)


def test_other_bytes_are_never_there(client: TestClient, own: Settings) -> None:
    other = b"x" * len(DATA)
    answer = client.put(HERE, content=other)
    assert (answer.status_code, answer.json()["code"]) == (409, "integrity")
    assert client.head(HERE, params={"size": len(DATA)}).status_code == 404
    size = {"Upload-Length": str(len(DATA))}
    assert client.put(HERE, content=other[:10], headers={"Upload-Offset": "0", **size}).status_code == 202
    assert client.put(HERE, content=DATA[10:], headers={"Upload-Offset": "10", **size}).json()["code"] == "integrity"
    longer = client.put(HERE, content=DATA + b"x", headers={"Content-Type": "a/b", "Upload-Length": str(len(DATA))})
    assert (longer.status_code, longer.json()["code"]) == (413, "too-large")
    assert open_blobs(own).has(NAME) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 0-5/3"},
        {"Content-Range": "bytes 5-0/30"},
        {"Content-Range": "bytes 0-9/30"},
        {"Content-Range": "lines 0-9/30"},
        {"Content-Range": f"bytes 0-9/{'9' * 17}"},
        {"Upload-Offset": "5"},
        {"Upload-Length": "-1"},
        {"Upload-Length": "1e3"},
        {"Upload-Length": "٣"},
        {"Upload-Offset": "x", "Upload-Length": "5"},
    ],
)
def test_headers_that_say_nothing(client: TestClient, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    answer = client.put(HERE, content=b"abc", headers=raw)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request"), answer.text


@pytest.mark.parametrize("name", ["a" * 63, "A" * 64, "..%2f" + "a" * 61, "a" * 64 + "%00", "%2e%2e"])
def test_what_is_no_sha256(client: TestClient, name: str) -> None:
    assert client.put(f"/api/v1/blobs/{name}", content=b"abc").status_code in (400, 404, 405)
    assert client.head(f"/api/v1/blobs/{name}", params={"size": 3}).status_code in (400, 404, 405)


def test_limits_are_told_before_anything_is_taken(client: TestClient, own: Settings) -> None:
    limited(client, max_blob_bytes=len(DATA) - 1)
    assert client.put(HERE, content=DATA).json()["code"] == "too-large"
    limited(client, max_blob_bytes=len(DATA), disk_reserve_bytes=1 << 60)
    answer = client.put(HERE, content=DATA)
    assert (answer.status_code, answer.json()["code"]) == (507, "storage-full")
    limited(client, disk_reserve_bytes=0, upload_bytes=len(DATA) + 5)
    size = {"Upload-Offset": "0", "Upload-Length": str(len(DATA))}
    assert client.put(HERE, content=DATA[:10], headers=size).status_code == 202
    other = f"/api/v1/blobs/{'a' * 64}"
    assert client.put(other, content=DATA).status_code == 507
    assert client.put(HERE, content=DATA[10:], headers=size | {"Upload-Offset": "10"}).status_code == 201
    client.app.state.uploads = own.max_uploads  # type: ignore[attr-defined]
    assert client.put(other, content=DATA).status_code == 503
    assert open_blobs(own).has("a" * 64) is None


def test_a_disk_that_fills_up_meanwhile(client: TestClient, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.web.uploads.LOOKED_AT", 1 << 20)
    monkeypatch.setattr("portal.web.uploads.check_room", lambda *_: None)
    limited(client, disk_reserve_bytes=1 << 60)
    pieces = (DATA[at : at + (1 << 20)] for at in range(0, len(DATA), 1 << 20))
    assert client.put(HERE, content=pieces, headers={"Upload-Length": str(len(DATA))}).status_code == 507
    assert open_blobs(own).has(NAME) is None


def test_a_connection_that_breaks_keeps_what_came(app: FastAPI, client: TestClient, own: Settings) -> None:
    token = client.headers["authorization"]
    with running(app) as url:
        host, port = url.removeprefix("http://").split(":")
        head = f"PUT {HERE} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\nContent-Length: {len(DATA)}\r\n\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + DATA[:3_000_001])
        asked = {"Authorization": token}
        with httpx.Client(base_url=url, headers=asked, timeout=30) as http:

            def received() -> int:
                return int(http.head(HERE, params={"size": len(DATA)}).headers.get("upload-offset", 0))

            # What was sent may still be on its way to the server when the connection breaks.
            while (offset := received()) == 0:
                time.sleep(0.05)
            rest = None
            while rest is None or rest.status_code != 201:
                offset = received()
                sizes = {"Upload-Offset": str(offset), "Upload-Length": str(len(DATA))}
                rest = http.put(HERE, content=DATA[offset:], headers=sizes)
                assert rest.status_code in (201, 409), rest.text
            assert offset > 0
    assert open_blobs(own).has(NAME) == len(DATA)


def test_who_trickles_is_cut_off(app: FastAPI, client: TestClient, own: Settings) -> None:
    limited(client, upload_seconds=0.3)
    token = client.headers["authorization"]
    with running(app) as url:
        host, port = url.removeprefix("http://").split(":")
        head = f"PUT {HERE} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\nContent-Length: {len(DATA)}\r\n\r\n"
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head.encode() + DATA[:100])
            told = b""
            while part := connection.recv(65536):
                told += part
        assert told.startswith(b"HTTP/1.1 408")
        assert b'"too-slow"' in told
        seen = httpx.head(f"{url}{HERE}?size={len(DATA)}", headers={"Authorization": token})
        assert seen.headers["upload-offset"] == "100"


def test_many_sending_the_same_file_end_with_one(app: FastAPI, client: TestClient, own: Settings) -> None:
    token = {"Authorization": client.headers["authorization"]}

    async def send(http: httpx.AsyncClient) -> int:
        while True:
            answer = await http.put(HERE, content=DATA)
            if answer.status_code in (200, 201):
                return answer.status_code
            assert answer.json()["code"] in ("upload-busy", "offset-mismatch"), answer.text
            await asyncio.sleep(0.02)

    async def all_at_once(url: str) -> list[int]:
        async with httpx.AsyncClient(base_url=url, headers=token, timeout=60) as http:
            return await asyncio.gather(*(send(http) for _ in range(8)))

    # In a thread of its own: the one of the tests may have a browser's event loop already.
    with running(app) as url, ThreadPoolExecutor(1) as thread:
        statuses = thread.submit(asyncio.run, all_at_once(url)).result()
    assert statuses.count(201) >= 1
    uri = open_blobs(own).location(NAME)
    if uri.startswith("file://"):
        assert Path(uri.removeprefix("file://")).read_bytes() == DATA
    digest = open_blobs(own).digest(NAME)
    assert digest is not None
    assert digest.size == len(DATA)
