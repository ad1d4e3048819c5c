"""`portal publish --to` against a real `portal serve`, both of which are killed at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from portal.catalog.accounts import create_token
from portal.database import create_database_engine
from portal.settings import Settings
from tests.cli.conftest import Portal
from tests.cli.test_serving import PORTAL, SECONDS, serving
from tests.exchange.releases import write_release

BIG = 96 << 20


@pytest.fixture
def token(sqlite_settings: Settings) -> str:
    """A publisher's token of the portal that is sent to."""
    engine = create_database_engine(sqlite_settings)
    try:
        return create_token(engine, "publisher", "ada")[0]
    finally:
        engine.dispose()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A small release with one large file."""
    folder = write_release(tmp_path / "mine")
    (folder / "checkpoints" / "step-5" / "big.bin").write_bytes(os.urandom(1 << 20) * (BIG >> 20))
    return folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def sending(release: Path, url: str, token: str, data: Path) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own."""
    process = subprocess.Popen(
        [*PORTAL, "publish", str(release), "--to", url, "--json"],
        env={**os.environ, "PORTAL_TOKEN": token, "PORTAL_DATA": str(data)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], met: Callable[[], bool]) -> None:
    """Wait until something is so, or the process has ended."""
    deadline = time.monotonic() + SECONDS
    while not met() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def staged(data: Path) -> int:
    """Bytes of the unfinished upload that has most."""
    folder = data / "store" / "uploads"
    sizes = [0]
    for path in folder.glob("*.part") if folder.exists() else ():
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return max(sizes)


def everything_arrived(url: str, release: Path, server: Path) -> None:
    """Every file by its bytes, and no blob under a name that is not its own."""
    [run] = httpx.get(f"{url}/api/v1/runs", timeout=30).json()["items"]
    assert (run["run"], run["checkpoints"]) == ("lab/small", 4)
    files = httpx.get(f"{url}/api/v1/runs/lab/small/files", params={"limit": 500}, timeout=30).json()["items"]
    held = {f["path"]: f["sha256"] for f in files}
    mine = [p for p in release.rglob("*") if p.is_file() and p.name != "release.yaml"]
    assert held == {p.relative_to(release).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in mine}
    blobs = [p for p in (server / "store" / "blobs" / "sha256").rglob("*") if p.is_file()]
    assert {p.name for p in blobs} == set(held.values())
    assert all(hashlib.sha256(p.read_bytes()).hexdigest() == p.name for p in blobs)
    assert not list((server / "store" / "uploads").iterdir())


def test_a_client_that_is_killed_goes_on(data: Path, release: Path, token: str, tmp_path: Path) -> None:
    with serving("serve", "--port", "0") as (_, url):
        before = -1
        for part in (0, BIG // 4, BIG // 2):
            with sending(release, url, token, tmp_path / "client") as process:
                wait_for(process, lambda part=part: staged(data) > part)  # type: ignore[misc]
                process.kill()
            assert httpx.get(f"{url}/api/v1/runs/lab/small", timeout=30).status_code == 404
            assert staged(data) > before
            before = staged(data)
        with sending(release, url, token, tmp_path / "client") as process:
            out, told = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, told
        report = json.loads(out)
        assert (report["state"], report["version"], report["files"]) == ("published", 1, 23)
        assert token not in out + told
        everything_arrived(url, release, data)
        with sending(release, url, token, tmp_path / "client") as process:
            report = json.loads(process.communicate(timeout=SECONDS)[0])
        assert (report["state"], report["sent"], report["sent_bytes"]) == ("unchanged", [], 0)


def test_a_server_that_is_killed_is_waited_for(data: Path, release: Path, token: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    publishing = data / "publishing" / "lab" / "small" / "lock"
    moments: list[Callable[[], bool]] = [lambda: staged(data) > BIG // 3, publishing.exists]
    with (
        serving("serve", "--port", str(port)) as (server, _),
        sending(release, url, token, tmp_path / "client") as client,
    ):
        wait_for(client, moments[0])
        server.send_signal(signal.SIGKILL)
        server.wait()
        with serving("serve", "--port", str(port)) as (second, _):
            wait_for(client, moments[1])
            second.send_signal(signal.SIGKILL)
            second.wait()
            with serving("serve", "--port", str(port)):
                out, told = client.communicate(timeout=SECONDS)
                assert client.returncode == 0, told
                assert json.loads(out)["version"] == 1
                everything_arrived(url, release, data)


def test_what_would_travel(
    portal: Portal, data: Path, release: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTAL_TOKEN", token)
    with serving("serve", "--port", "0") as (_, url):
        said = portal("publish", release, "--to", url, "--dry-run")
        assert said.code == 0, said.err
        assert "Would send 17 files (96.0 MiB)" in said.out
        assert "would become version 1" in said.out
        assert staged(data) == 0
        said = portal("publish", release, "--to", url)
        assert "Published lab/small as version 1." in said.out
        (release / "train.yaml").write_text("lr: 0.002\n")
        assert "Would send 1 files" in portal("publish", release, "--to", url, "--dry-run").out
        (release / "train.yaml").unlink()
        said = portal("publish", release, "--to", url)
        assert (said.code, said.out) == (1, "")
        assert "configs[0].file" in said.err


def test_tokens_are_kept_safe(portal: Portal, data: Path, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "llm360_this-is-a-secret"
    said = portal("publish", release, "--to", "http://127.0.0.1:1")
    assert (said.code, "PORTAL_TOKEN" in said.err) == (2, True)
    monkeypatch.setenv("PORTAL_TOKEN", secret)
    for url in ("http://example.org", "http://10.0.0.1:8360", "http://localhost.example.org"):
        said = portal("publish", release, "--to", url)
        assert (said.code, "--insecure" in said.err) == (2, True)
        assert secret not in said.err
    with serving("serve", "--port", "0") as (_, url):
        said = portal("publish", release, "--to", url)
        assert said.code == 1
        assert "unknown, expired or revoked" in said.err
        assert secret not in said.err
    assert portal("publish", release, "--to", "ftp://127.0.0.1").code == 2
    monkeypatch.setattr("portal.client.publish.TRIES", 1)
    said = portal("publish", release, "--to", f"http://127.0.0.1:{free_port()}")
    assert (said.code, "does not answer" in said.err) == (1, True)
    assert secret not in said.err
