"""`portal serve`, `portal demo` and `portal migrate` as real processes."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from portal.database import create_database_engine, migrate
from portal.settings import Settings
from tests.builders import SmallRun
from tests.cli.conftest import Portal
from tests.postgres import PostgresServer

PORTAL = [sys.executable, "-m", "portal"]
SECONDS = 90


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A portal process and its address, which it prints itself; ended by SIGTERM."""
    process = subprocess.Popen(
        [*PORTAL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )  # fmt: skip
    try:
        yield process, _address(process)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(SECONDS)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ready, _, _ = select.select([process.stdout], [], [], 1)
        line = process.stdout.readline() if ready else ""
        if "http://" in line:
            return "http://" + line.split("http://")[1].split("/")[0].strip().rstrip(".")
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
    raise AssertionError("it did not start")


def ask(url: str) -> Any:
    """The JSON there, from a server that may still be starting."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return httpx.get(url, timeout=30).raise_for_status().json()
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_serve_answers_and_stops_when_told(small: SmallRun) -> None:
    # No request is slow enough to be told of, however busy this machine is.
    with serving("serve", "--port", "0", PORTAL_ACCESS_LOG="none") as (process, url):
        assert ask(f"{url}/healthz")["status"] == "ok"
        assert [r["run"] for r in ask(f"{url}/api/v1/runs")["items"]] == ["lab/small"], "PORTAL_DATA is respected"
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_several_workers(small: SmallRun) -> None:
    with serving("serve", "--port", "0", "--workers", "2") as (process, url):
        assert ask(f"{url}/healthz")["status"] == "ok"
        assert ask(f"{url}/api/v1/runs/lab/small/steps/5")["step"] == 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def test_a_port_in_use(portal: Portal, data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in ("serve", "demo"):
            said = portal(command, "--port", port)
            assert (said.code, said.out) == (1, "")
            assert f"port {port}: Address already in use" in said.err
    assert portal("serve", "--host", "host.invalid", "--port", 0).code == 1


def test_serving_in_this_process(
    portal: Portal, small: SmallRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the processes above run, with the server itself left out."""
    served: list[str] = []

    class Server:
        def __init__(self, *_about: object) -> None: ...

        def run(self, **_sockets: object) -> None:
            served.append("served")

    monkeypatch.setattr("uvicorn.Server", Server)
    monkeypatch.setattr("portal.cli.serve._LastWords", Server)
    monkeypatch.setattr("portal.cli.serve.Multiprocess", Server)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert portal("serve", "--port", 0).out.startswith("Serving on http://127.0.0.1:")
        assert portal("serve", "--port", 0, "--workers", 2).code == 0
        assert portal("serve", "--port", 0, "--host", "::1").out.startswith("Serving on http://[::1]:")
        said = portal("demo", "--only", "pythia-70m", "--data", tmp_path / "demo", "--port", 0, "--no-worker")
        assert said.code == 0
        assert "/runs/" in said.out
        assert "1 run is ready." in said.err
        assert (tmp_path / "demo" / "portal.sqlite3").is_file()
        unknown = portal("demo", "--only", "nothing", "--port", 0, "--no-worker")
        assert (unknown.code, unknown.out) == (2, "")
        assert "amber-scale" in unknown.err
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert len(served) == 4


def test_the_demo_serves(tmp_path: Path) -> None:
    with serving("demo", "--only", "tiny", "--data", str(tmp_path / "demo"), "--port", "0") as (process, url):
        assert ask(f"{url}/api/v1/runs/demo/tiny/steps/150")["at"]["step"] == 150
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


@pytest.fixture
def empty_postgres(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    name = postgres_server.create_database("outdated")
    monkeypatch.setenv("PORTAL_DATABASE_URL", postgres_server.url(name))
    monkeypatch.setenv("PORTAL_DATA", str(tmp_path / "data"))
    yield name
    postgres_server.drop_database(name)


def test_an_outdated_shared_database_is_refused_until_it_is_migrated(portal: Portal, empty_postgres: str) -> None:
    for command in (["serve", "--port", "0"], ["runs"], ["publish", "."], ["scan", "lab/x"]):
        said = portal(*command)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith("The database is at schema none, this version needs ")
        assert said.err.endswith("Run `portal migrate` first.\n")
    assert portal("migrate").out.startswith("The schema at postgresql+psycopg://")
    assert portal("runs").code == 0
    with serving("serve", "--port", "0") as (_process, url):
        assert {check["state"] for check in ask(f"{url}/readyz")["checks"]} == {"ok"}


def test_migrate_shows_no_password(portal: Portal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PORTAL_DATABASE_URL", "postgresql+psycopg://me:s3cret@127.0.0.1:1/y")
    said = portal("migrate")
    assert said.code == 1
    assert "s3cret" not in said.err


def test_settings_from_a_file(portal: Portal, sqlite_settings: Settings, tmp_path: Path) -> None:
    engine = create_database_engine(Settings(data=tmp_path / "from-file"))
    migrate(engine)
    engine.dispose()
    (tmp_path / "portal.toml").write_text(f'data = "{tmp_path / "from-file"}"\n')
    assert str(tmp_path / "from-file" / "portal.sqlite3") in portal("migrate").out
