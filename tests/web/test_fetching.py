"""What aria2, curl, sha256sum and unzip make of the lists and the zip of a pair."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree

import pytest
from fastapi import FastAPI
from httpx import Response
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.database import create_database_engine
from portal.exchange.received import publish_received
from portal.settings import Settings
from portal.web.app import create_app
from portal.web.downloads import Download, DownloadPlan
from portal.web.fetch_lists import write_aria2, write_curl, write_metalink
from tests.builders import SmallRun, record, small_run
from tests.client.servers import running
from tests.conftest import missing
from tests.exchange.releases import write_release
from tests.exchange.test_received import sent
from tests.seaweed import BUCKET, SeaweedServer

PAIR = "/api/v1/runs/lab/small/steps/10/pair"
CHECKPOINT = "/api/v1/runs/lab/small/checkpoints/10"
ODD = ["a b.bin", 'quo"te.bin', "back#1.bin", "[x]{y}.bin", "ünï<>.bin", "-o.bin", "x.meta4"]


@pytest.fixture
def served(sqlite_settings: Settings, tmp_path: Path) -> Iterator[str]:
    """A portal over the small run, and over one whose file names are chosen to be misread."""
    engine = create_database_engine(sqlite_settings)
    small_run(engine, sqlite_settings, tmp_path / "release")
    (tmp_path / "odd").mkdir()
    for k, name in enumerate(ODD):
        (tmp_path / "odd" / name).write_bytes(bytes([k]) * (k + 10))
    files = [{"path": name.replace("{", "{{").replace("}", "}}"), "role": "weights"} for name in ODD]
    record(engine, sqlite_settings, {"run": "lab/odd", "checkpoints": [{"step": 5, "files": files}]}, tmp_path / "odd")
    engine.dispose()
    with running(create_app(sqlite_settings)) as url:
        yield url


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing(name, f"apt-get install {name.replace('aria2c', 'aria2')}")
    return str(found)


def fetched(folder: Path) -> None:
    """Every file of the sums is there and sound."""
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def get(url: str, path: Path) -> None:
    subprocess.run([tool("curl"), "-fsS", "-o", str(path), url], check=True)


@pytest.mark.parametrize(
    "address", [f"{PAIR}/pair", f"{CHECKPOINT}/checkpoint", "/api/v1/runs/lab/odd/checkpoints/5/checkpoint"]
)
def test_aria2_takes_the_metalink_and_the_input_file(served: str, tmp_path: Path, address: str) -> None:
    aria2 = [tool("aria2c"), "--quiet", "--no-conf"]
    for kind, arguments in (("meta4", ["-V", "--allow-overwrite=true", "-M"]), ("aria2", ["-c", "-x8", "-i"])):
        folder = tmp_path / kind
        folder.mkdir()
        get(f"{served}{address}.{kind}", tmp_path / f"list.{kind}")
        get(f"{served}{address.rsplit('/', 1)[0]}/SHA256SUMS", folder / "SHA256SUMS")
        subprocess.run([*aria2, *arguments, str(tmp_path / f"list.{kind}")], cwd=folder, check=True)
        fetched(folder)


def test_aria2_refuses_other_bytes(served: str, tmp_path: Path) -> None:
    get(f"{served}{PAIR}/pair.meta4", tmp_path / "pair.meta4")
    text = (tmp_path / "pair.meta4").read_text()
    digest = text.split('type="sha-256">')[1][:64]
    (tmp_path / "pair.meta4").write_text(text.replace(f">{digest}<", f">{'0' * 64}<"))
    done = subprocess.run([tool("aria2c"), "--quiet", "--no-conf", "-M", "pair.meta4"], cwd=tmp_path)
    assert done.returncode == 32


@pytest.mark.parametrize("address", [f"{PAIR}/pair", "/api/v1/runs/lab/odd/checkpoints/5/checkpoint"])
def test_curl_takes_its_config_and_resumes(served: str, tmp_path: Path, address: str) -> None:
    get(f"{served}{address}.curl", tmp_path / "list.curl")
    get(f"{served}{address.rsplit('/', 1)[0]}/SHA256SUMS", tmp_path / "SHA256SUMS")
    command = [tool("curl"), "--silent", "--parallel", "-K", "list.curl"]
    subprocess.run(command, cwd=tmp_path, check=True)
    fetched(tmp_path)
    weights = max((tmp_path / "checkpoint").iterdir(), key=lambda p: p.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:3])
    subprocess.run(command, cwd=tmp_path)
    fetched(tmp_path)


def test_a_hostile_name_or_address_says_nothing_but_itself() -> None:
    odd = 'data/x"\\ y\u2028#1 -> --'
    address = "https://example.org/a b\n  out=/etc/passwd\t<x>"
    plan = DownloadPlan(
        [
            Download(odd, address, 1, None),
            Download("data/\uffff ", "/files/a", 2, "0" * 64),
            Download("a&b", "/files/b", 1, None),
        ],
        ["a --\nb is lost"],
    )
    root = ElementTree.fromstring(write_metalink(plan, "http://portal"))  # noqa: S314 - just written here
    files = root.findall("{urn:ietf:params:xml:ns:metalink}file")
    assert [f.get("name") for f in files] == [odd]
    aria2 = write_aria2(plan, "http://portal").splitlines()
    assert [line for line in aria2 if "out=" in line and not line.startswith(" ")] == [aria2[2]]
    assert aria2[:2] == ["# a -- b is lost", "# Not in this list, which cannot name it: 'data/\\uffff '"]
    assert aria2[2].startswith("https://example.org/a%20b%0A%20%20out=/etc/passwd%09%3Cx%3E")
    curl = write_curl(plan, "http://portal")
    assert 'output = "data/x\\"\\\\ y\u2028#1 -> --"\n' in curl
    assert "\n  out=" not in curl


def test_a_small_pair_is_one_zip(client: TestClient, small: SmallRun, tmp_path: Path) -> None:
    answer = client.get(f"{PAIR}/pair.zip")
    assert int(answer.headers["content-length"]) == len(answer.content)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as held:
        assert held.testzip() is None
        assert {i.compress_type for i in held.infolist()} == {zipfile.ZIP_STORED}
        held.extractall(tmp_path / "out")
    fetched(tmp_path / "out" / "small-step-10-next")
    some = client.get(f"{PAIR}/pair.zip?parts=weights&data=batch")
    assert "optimizer.bin" not in some.text
    assert client.head(f"{PAIR}/pair.zip").headers["content-length"] == answer.headers["content-length"]


@pytest.mark.xdist_group("seaweed")
def test_what_passes_through_the_portal_is_in_the_zip(
    sqlite_settings: Settings, tmp_path: Path, s3_server: SeaweedServer
) -> None:
    own = {"storage_url": f"s3://{BUCKET}/{uuid4().hex}", "s3_endpoint": s3_server.endpoint}
    settings = sqlite_settings.model_copy(update=own)
    engine = create_database_engine(settings)
    release = write_release(tmp_path / "release")
    manifest, files = sent(release, settings)
    publish_received(settings, engine, manifest, files, "ada")
    engine.dispose()

    def ask(remote_files: str) -> Response:
        app = create_app(settings.model_copy(update={"remote_files": remote_files}))
        client = TestClient(app, raise_server_exceptions=False)
        shown = "pair.zip" in client.get("/runs/lab/small/steps/10/pair").text
        answer = client.get(f"{PAIR}/pair.zip")
        app.state.desk.close()
        assert shown == (answer.status_code == 200)
        return answer

    assert ask("redirect").json()["code"] == "file-missing"
    answer = ask("proxy")
    assert int(answer.headers["content-length"]) == len(answer.content)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as held:
        weights = held.read("small-step-10-next/checkpoint/model.safetensors")
    assert weights == (release / "checkpoints" / "step-10" / "model.safetensors").read_bytes()


def test_a_zip_is_refused_before_it_starts(
    client: TestClient,
    app: FastAPI,
    engine: Engine,
    settings: Settings,
    small: SmallRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("portal.web.zips.MAX_ZIP", 1000)
    refused = client.get(f"{PAIR}/pair.zip")
    assert (refused.status_code, refused.json()["code"]) == (413, "too-large")
    monkeypatch.undo()
    (small.folder / "step10" / "optimizer.bin").write_bytes(b"short")
    assert client.get(f"{PAIR}/pair.zip").json()["code"] == "integrity"
    (small.folder / "step10" / "optimizer.bin").unlink()
    assert client.get(f"{PAIR}/pair.zip").json()["code"] == "file-missing"
    files = [{"path": "https://example.org/w.bin", "size": 3, "role": "weights"}]
    record(engine, settings, {"run": "lab/far", "checkpoints": [{"step": 5, "files": files}]})
    assert client.get("/api/v1/runs/lab/far/steps/5/pair/pair.zip").json()["code"] == "file-missing"


def test_the_page_leads_to_every_list(client: TestClient) -> None:
    page = client.get("/runs/lab/small/steps/10/pair?data=previous&parts=weights").text
    for kind in ("meta4", "aria2", "curl", "zip"):
        assert f'href="{PAIR}/pair.{kind}?data=previous&amp;parts=weights"' in page
        assert client.get(f"{PAIR}/pair.{kind}?data=previous&parts=weights").status_code == 200


def test_the_checkpoints_page_leads_to_its_lists(client: TestClient) -> None:
    page = client.get("/runs/lab/small/checkpoints/10").text
    for name in ("SHA256SUMS", "checkpoint.meta4", "checkpoint.aria2", "checkpoint.curl"):
        assert f'href="{CHECKPOINT}/{name}"' in page


def test_a_list_names_what_it_lacks(client: TestClient) -> None:
    assert client.get(f"{PAIR}/pair.torrent").status_code == 400
    head = client.get(f"{CHECKPOINT}/checkpoint.meta4").headers
    assert head["content-type"] == "application/metalink4+xml"
    assert head["content-disposition"] == 'attachment; filename="checkpoint.meta4"'
    again = client.get(f"{CHECKPOINT}/checkpoint.meta4", headers={"If-None-Match": head["etag"]})
    assert again.status_code == 304
    assert client.get("/api/v1/runs/lab/small/checkpoints/ckpt_002/SHA256SUMS").text.count("\n") == 2
