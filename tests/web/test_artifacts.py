"""Checkpoints, tensors, chunks and pairs over HTTP: parts of pages, choices in the address, sums."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from safetensors.numpy import save
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.settings import Settings
from tests.builders import SmallRun, many_checkpoints, record

RUN = "/runs/lab/small"


def part(client: TestClient, path: str, target: str) -> str:
    """The block of a page that htmx asks for."""
    answer = client.get(path, headers={"HX-Request": "true", "HX-Target": target})
    assert answer.status_code == 200, answer.text
    assert "<html" not in answer.text
    return answer.text


@pytest.fixture
def tensors(app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path) -> TestClient:
    """A portal with a checkpoint of two tensors, one of them named to attack."""
    body = save({"<img src=x onerror=alert(1)>": np.zeros((2, 2), np.float32), "b": np.zeros(3, np.float16)})
    (tmp_path / "model.safetensors").write_bytes(body)
    files = [{"path": "model.safetensors", "role": "weights"}]
    record(engine, settings, {"run": "lab/t", "checkpoints": [{"step": 5, "files": files}]}, tmp_path)
    return TestClient(app, raise_server_exceptions=False)


def test_tensors_as_json_in_pages(tensors: TestClient) -> None:
    answer = tensors.get("/api/v1/runs/lab/t/checkpoints/5/tensors", params={"limit": 1})
    table = answer.json()
    assert (table["total"], table["parameters"], table["dtypes"]) == (2, 7, {"F32": 4, "F16": 3})
    assert 'rel="next"' in answer.headers["link"]
    again = tensors.get(answer.request.url.path, params={"limit": 1}, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_tensors_as_a_part_of_the_checkpoints_page(tensors: TestClient) -> None:
    whole = tensors.get("/runs/lab/t/checkpoints/5").text
    assert 'hx-get="/runs/lab/t/checkpoints/5/tensors"' in whole
    block = part(tensors, "/runs/lab/t/checkpoints/5/tensors", "tensors")
    assert "<img" not in block
    assert "&lt;img src=x" in block
    rows = part(tensors, "/runs/lab/t/checkpoints/5/tensors?tensor=b", "tensor-rows")
    assert "<form" not in rows
    assert "1 of 1 tensors" in rows


def test_a_broken_header_is_a_notice_on_the_page(client: TestClient) -> None:
    text = client.get(f"{RUN}/checkpoints/5/tensors").text
    assert "says its header is" in text
    assert "compare its sha256 with the release" in text


def test_the_last_checkpoint_is_not_told_to_read_on(client: TestClient) -> None:
    last = client.get(f"{RUN}/checkpoints/20").text
    assert "portal pair lab/small 20 --data previous" in last
    assert "--data next" not in last
    assert "portal pair lab/small 0 --data next" in client.get(f"{RUN}/checkpoints/0").text


def test_a_lost_checkpoint_offers_no_command(app: FastAPI, engine: Engine, settings: Settings) -> None:
    checkpoints = [{"step": 10}, {"step": 20, "missing": True}, {"step": 30}]
    many_checkpoints(engine, settings, "lab/lost", 5, checkpoints=checkpoints)
    text = TestClient(app).get("/runs/lab/lost/checkpoints/20").text
    assert "portal pair" not in text
    assert "never released, or was lost" in text


def test_hub_commands_are_pinned_to_the_revision(app: FastAPI, engine: Engine, settings: Settings) -> None:
    checkpoints = [{"step": 10, "location": "hf://LLM360/Amber@ckpt_001"}]
    many_checkpoints(engine, settings, "lab/hub", 5, checkpoints=checkpoints)
    text = TestClient(app).get("/runs/lab/hub/checkpoints/10").text
    assert "hf download LLM360/Amber --revision ckpt_001" in text
    assert "revision=&#39;ckpt_001&#39;" in text


def test_the_choice_of_parts_is_in_the_address_and_in_every_command(client: TestClient) -> None:
    text = client.get(f"{RUN}/steps/10/pair?data=previous&steps=3&parts=weights").text
    assert "pair lab/small 10 --data previous --steps 3 --parts weights --to" in text
    assert "PairChoice(&#39;previous&#39;, 3, (&#39;weights&#39;,))" in text
    assert "optimizer.bin" not in text
    assert "pair/SHA256SUMS?data=previous&amp;steps=3&amp;parts=weights" in text
    pair = client.get(f"/api/v1{RUN}/steps/10/pair?data=previous&steps=3&parts=weights").json()
    assert [f["path"] for f in pair["files"]] == ["step10/model.safetensors", "chunk_0.jsonl"]
    assert pair["total_bytes"] == sum(f["size"] for f in pair["files"])
    assert len(pair["checkpoint"]["files"]) == 2


def test_the_form_swaps_only_the_pair(client: TestClient) -> None:
    block = part(client, f"{RUN}/steps/10/pair?data=batch&steps=&parts=weights&parts=optimizer", "pair")
    assert "<form" not in block
    assert "--data batch --parts weights,optimizer" in block


def test_an_impossible_pair_is_not_the_default(client: TestClient) -> None:
    assert "--data previous" in client.get(f"{RUN}/steps/20/pair").text
    assert client.get(f"{RUN}/steps/20/pair?data=next").status_code == 400
    assert client.get(f"/api/v1{RUN}/steps/20/pair").status_code == 400
    assert client.get(f"/api/v1{RUN}/steps/10/pair?parts=wings").json()["code"] == "bad-request"


def test_sums_check_what_the_commands_fetch(client: TestClient, small: SmallRun, tmp_path: Path) -> None:
    answer = client.get(f"/api/v1{RUN}/steps/10/pair/SHA256SUMS?data=next")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    folder = tmp_path / "fetched"
    for line in answer.text.splitlines():
        digest, name = line.split("  ")
        source = name.removeprefix("checkpoint/").removeprefix("data/")
        body = (small.folder / ("step10/" + source if name.startswith("checkpoint/") else source)).read_bytes()
        assert hashlib.sha256(body).hexdigest() == digest
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    (folder / "SHA256SUMS").write_text(answer.text)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True)
    page = client.get(f"{RUN}/steps/10/pair?data=next").text
    for line in answer.text.splitlines():
        assert f"--create-dirs -o {line.split('  ')[1]} " in page


def test_files_without_a_digest_are_said_to_have_none(app: FastAPI, engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/many", 3)
    client = TestClient(app)
    assert "no published sha256" in client.get("/runs/lab/many/steps/10/pair").text
    assert client.get("/api/v1/runs/lab/many/steps/10/pair").json()["unhashed"] == 2


def test_rows_of_a_chunk(client: TestClient, small: SmallRun) -> None:
    found = client.get(f"/api/v1{RUN}/chunks/chunk_1/rows?at=3,5").json()
    assert [r["row"] for r in found["rows"]] == [3, 5]
    assert found["rows"][0]["token_ids"] == small.rows[43].tolist()
    assert 'row <strong class="num">39</strong>' in part(client, f"{RUN}/chunks/chunk_1/rows", "rows")
    assert client.get(f"/api/v1{RUN}/chunks/chunk_1/rows?at=x").status_code == 400
    assert 'hx-get="/runs/lab/small/chunks/chunk_1/rows"' in client.get(f"{RUN}/chunks/chunk_1").text
