"""Limits of heads and bodies, each refused in the same words as every other error, cheaply, and without a 500."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from portal.catalog.accounts import create_token
from portal.web.door import bodies
from tests.web.door.conftest import Opened

JSON = {"Content-Type": "application/json"}


def test_heads_have_limits(opened: Opened) -> None:
    client = opened(run=True)
    for headers, query, status, code in (
        ({"Cookie": "a=" + "x" * 33_000}, "", 431, "headers-too-large"),
        ({f"X-{k}": "1" for k in range(120)}, "", 431, "headers-too-large"),
        ({}, "?q=" + "x" * 17_000, 414, "address-too-long"),
        ({}, "?" + "a&" * 1500, 400, "bad-request"),
        ({}, "?q=a%00b", 400, "bad-request"),
        ({}, "/lab/sm%00all", 400, "bad-request"),
        ({"Range": "bytes=" + ",".join(f"{k}-{k}" for k in range(4000))}, "", 431, "headers-too-large"),
        ({"Range": "bytes=" + ",".join(f"{k}-{k}" for k in range(400))}, "", 200, None),
    ):
        answer = client.get(f"/api/v1/runs{query}", headers=headers)
        assert (answer.status_code, answer.json().get("code")) == (status, code)
        if status != 200:
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/api/v1/workers", "/api/v1/jobs", "/api/models/lab/small/paths-info/main", "/sign-in", "/jobs/1/cancel"]
)
def test_bodies_have_a_size(opened: Opened, path: str) -> None:
    client = opened(run=True)
    secret, _ = create_token(client.app.state.desk.engine, "admin")  # type: ignore[attr-defined]
    headers = {"Authorization": f"Bearer {secret}", **JSON}
    told = client.post(path, content=b"x" * ((1 << 20) + 1), headers=headers)
    assert (told.status_code, told.headers["connection"]) == (413, "close")

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    assert client.post(path, content=endless(), headers=headers).status_code == 413, "without Content-Length"
    packed = client.post(path, content=b"{}", headers={**headers, "Content-Encoding": "gzip"})
    assert (packed.status_code, packed.json()["code"] if "api" in path else 0) in (
        (415, "encoding-not-taken"),
        (415, 0),
    )


def test_deep_json_is_refused_before_it_is_parsed(opened: Opened) -> None:
    client = opened(run=True)
    secret, _ = create_token(client.app.state.desk.engine, "admin")  # type: ignore[attr-defined]
    headers = {"Authorization": f"Bearer {secret}", **JSON}
    for depth, status in ((200_000, 400), (70, 400), (20, 200)):
        trainer = b"[" * depth + b"]" * depth
        began = time.perf_counter()
        answer = client.post(
            "/api/v1/workers", content=b'{"name": "w", "trainer": {"a": %s}}' % trainer, headers=headers
        )
        assert answer.status_code == status, answer.text[:300]
        assert time.perf_counter() - began < 2
    brackets = b'{"name": "w", "host": "' + b"[{" * 50 + b'"}'
    assert client.post("/api/v1/workers", content=brackets, headers=headers).status_code == 200, (
        "text may hold brackets"
    )
    assert client.get("/api/v1/workers").status_code == 200


def test_bombs_of_fields_are_refused_soon(opened: Opened) -> None:
    client = opened(run=True)
    path = "/api/models/lab/small/paths-info/main"
    for body in (b"paths=a&" * 125_000, b"paths=a&" * 1_000_000):
        began = time.perf_counter()
        answer = client.post(path, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.status_code in (400, 413)
        assert time.perf_counter() - began < 2


def test_what_is_held_is_bounded(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "HELD_AT_ONCE", 1000)
    told = opened().post("/sign-in", content=b"a" * 2000)
    assert (told.status_code, told.headers["retry-after"]) == (503, "2")


def test_a_full_disk_refuses_writing_and_goes_on_reading(opened: Opened) -> None:
    client = opened(run=True, disk_reserve_bytes=1 << 60, anonymous_jobs=True)
    secret, _ = create_token(client.app.state.desk.engine, "admin")  # type: ignore[attr-defined]
    headers = {"Authorization": f"Bearer {secret}", **JSON}
    for path in ("/api/v1/releases", "/api/v1/jobs", "/api/v1/jobs/1/attempts/1/logs?fence=1&offset=0"):
        answer = client.post(path, content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (507, "storage-full"), path
    for path in ("/", "/api/v1/runs/lab/small", "/api/v1/runs/lab/small/steps/3", "/api/v1/whoami"):
        assert client.get(path, headers=headers).status_code == 200
    assert client.post("/api/v1/workers", json={"name": "w"}, headers=headers).status_code == 200, "who works says so"
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert {c["name"]: c["state"] for c in ready.json()["checks"]}["disk"] == "low"
