"""Croissant as mlcroissant takes it, and Link headers as a harvester follows them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.client import Portal
from portal.database import create_database_engine
from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import many_checkpoints, small_run
from tests.client.servers import running
from tests.verifiers import verifier

RUN = "/api/v1/runs/lab/small"


@pytest.fixture
def served(sqlite_settings: Settings, tmp_path: Path) -> Iterator[str]:
    engine = create_database_engine(sqlite_settings)
    small_run(engine, sqlite_settings, tmp_path / "release")
    engine.dispose()
    with running(create_app(sqlite_settings)) as url:
        yield url


def official(tool: str, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(home)}  # mlcroissant keeps what it loads there
    command = [str(verifier("croissant") / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_mlcroissant_validates_and_loads_the_rows(served: str, tmp_path: Path) -> None:
    done = official("mlcroissant", "validate", "--jsonld", f"{served}{RUN}/croissant", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()
    load = ["load", "--record_set", "rows-1", "--num_records", "2", "--jsonld"]
    loaded = official("mlcroissant", *load, f"{served}{RUN}/croissant", home=tmp_path)
    assert loaded.returncode == 0, loaded.stderr
    with Portal(served) as portal:
        told = portal.tokens("lab/small", 11, count=1)["rows"][0]
        with portal.open_url(f"{RUN}/croissant") as answer:
            text = answer.read().decode()
    assert str(told["token_ids"]) in loaded.stdout
    digest = text.split('"sha256":"')[2][:64]
    (tmp_path / "wrong.json").write_text(text.replace(f'"sha256":"{digest}"', f'"sha256":"{"0" * 64}"'))
    assert official("mlcroissant", *load, str(tmp_path / "wrong.json"), home=tmp_path).returncode != 0


def test_a_harvester_finds_its_way(served: str, tmp_path: Path) -> None:
    done = official("signposting", f"{served}/runs/lab/small/checkpoints/10", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"CiteAs: <{served}/r/lab/small/s/10?v=1>" in done.stdout
    assert "License: <https://spdx.org/licenses/Apache-2.0>" in done.stdout
    assert f"<{served}{RUN}/croissant> application/ld+json" in done.stdout
    assert done.stdout.count("/files/") == 2


@pytest.mark.parametrize("path", ["", "/steps/10", "/checkpoints/10"])
def test_pages_lead_to_what_is_there(client: TestClient, path: str) -> None:
    for _ in range(2):  # made, and kept
        links = client.get(f"/runs/lab/small{path}").headers["link"].split(", ")
        by_relation = {link.split('rel="')[1].split('"')[0]: link[1:].split(">")[0] for link in links}
        assert {"cite-as", "describedby", "license", "type"} <= set(by_relation)
        for link in links:
            address = link[1:].split(">")[0]
            if address.startswith("http://testserver"):
                assert client.get(address).status_code == 200, address
    twin = client.get(f"/api/v1/runs/lab/small{path}").headers.get("link")
    assert twin is None if path == "/steps/10" else twin == ", ".join(links)


def test_what_croissant_cannot_say_is_refused(
    client: TestClient, app: FastAPI, engine: Engine, settings: Settings
) -> None:
    many_checkpoints(engine, settings, "lab/many", 3)
    refused = client.get("/api/v1/runs/lab/many/croissant")
    assert (refused.status_code, refused.json()["code"]) == (422, "data-fault")
    told = client.get(f"{RUN}/croissant")
    assert told.headers["content-type"] == "application/ld+json"
    assert told.json()["license"] == "odc-by"
    assert client.get("/api/datasets/lab/small/croissant").content == told.content
    assert "known with confidence" in told.json()["description"]
