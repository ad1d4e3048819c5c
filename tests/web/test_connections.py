"""Connections of a real server: heads that never end or are too large, and how a server leaves without cutting anybody off."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from portal.database import create_database_engine
from portal.settings import Settings
from portal.web import server
from portal.web.server import SendfileProtocol
from tests.builders import SmallRun, small_run
from tests.cli.test_serving import ask, serving

HOST = "127.0.0.1"


@pytest.fixture
def small(sqlite_settings: Settings, tmp_path: Path) -> SmallRun:
    """In the folder that commands take by default."""
    engine = create_database_engine(sqlite_settings)
    made = small_run(engine, sqlite_settings, tmp_path / "release")
    engine.dispose()
    return made


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.4)

    async def hello(scope: dict[str, object], _receive: object, send: object) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})  # type: ignore[operator]
            await send({"type": "http.response.body", "body": b"hi"})  # type: ignore[operator]

    config = uvicorn.Config(hello, http=SendfileProtocol, log_config=None, access_log=False, lifespan="off")
    running = uvicorn.Server(config)
    listening = socket.create_server((HOST, 0))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()[1]
    running.should_exit = True
    thread.join(10)


def told(link: socket.socket) -> tuple[int, dict[str, object]]:
    answer = b"".join(iter(lambda: link.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"content-type: application/problem+json" in head
    return int(head.split(b" ")[1]), json.loads(body)


def test_a_head_that_never_ends(port: int) -> None:
    with socket.create_connection((HOST, port), timeout=10) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
        status, problem = told(link)
        assert (status, problem["code"]) == (408, "too-slow")
    with socket.create_connection((HOST, port), timeout=10) as link:
        assert link.recv(10) == b"", "who says nothing at all is hung up on"


def test_a_head_that_is_endless(port: int) -> None:
    with socket.create_connection((HOST, port), timeout=10) as link:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 60_000)
        status, problem = told(link)
        assert (status, problem["code"]) == (431, "headers-too-large")


def test_what_is_no_http(port: int) -> None:
    with socket.create_connection((HOST, port), timeout=10) as link:
        link.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert told(link)[0] == 400


def test_a_kept_connection_is_used_on_and_a_slow_pipeline_is_not_cut(port: int) -> None:
    with httpx.Client(base_url=f"http://{HOST}:{port}") as client:
        for _ in range(3):
            assert client.get("/").text == "hi"
            time.sleep(0.3)


class Hammer:
    """Clients that ask all the time, over connections they keep; every failure is kept with its words."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self._url = url
        self._stop = threading.Event()
        self.answers: Counter[int] = Counter()
        self.failures: list[str] = []
        self.processes: set[str] = set()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Hammer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self) -> None:
        while not self._stop.is_set():
            # Which process takes a connection is chance: a few new ones now and then meet all of them.
            with httpx.Client(base_url=self._url, timeout=30) as client:
                for _ in range(100):
                    self._ask_once(client)

    def _ask_once(self, client: httpx.Client) -> None:
        try:
            answer = client.get("/api/v1/runs/lab/small/steps/5")
            self.answers[answer.status_code] += 1
            self.processes.add(answer.headers["x-request-id"].split("-")[0])
        except httpx.HTTPError as error:
            self.failures.append(repr(error))


def wait_until(done: object, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(400)
def test_processes_are_replaced_one_by_one_without_a_failed_request(small: SmallRun) -> None:
    with serving("serve", "--port", "0", "--workers", "2", PORTAL_RATES="off") as (process, url):
        ask(f"{url}/healthz")
        with Hammer(url) as hammer:
            wait_until(lambda: len(hammer.processes) == 2)
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(hammer.processes) == 4)
            time.sleep(2)
        assert hammer.failures == []
        assert set(hammer.answers) == {200}
        counted = httpx.get(f"{url}/metrics").text
        asked = '{route="/api/v1/runs/{org}/{name}/steps/{step}",status="200"} '
        assert f"portal_requests_total{asked}{hammer.answers[200]}" in counted, "nothing counted is lost with a process"


def test_what_has_begun_is_finished(small: SmallRun, tmp_path: Path) -> None:
    """A download goes on to its end, one that takes nothing is cut off when its time is over, watchers come again."""
    with serving("serve", "--port", "0", PORTAL_STOP_DELAY="0.5", PORTAL_STOP_SECONDS="4") as (process, url):
        ask(f"{url}/healthz")
        ready = httpx.Client(base_url=url)
        assert ready.get("/readyz").status_code == 200
        with httpx.stream("GET", f"{url}/files/{_digest(small)}/model.safetensors") as download:
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: ready.get("/readyz").status_code == 503, 5)
            assert ready.get("/api/v1/runs/lab/small/steps/5").status_code == 200, "it still answers while others learn"
            assert len(download.read()) == int(download.headers["content-length"])
        assert process.wait(30) == 0
        ready.close()


def _digest(small: SmallRun) -> str:
    return hashlib.sha256((small.folder / "step5" / "model.safetensors").read_bytes()).hexdigest()
