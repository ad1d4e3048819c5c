"""Submitting jobs: previews, what is refused and why, idempotency, who may."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.catalog.jobs.workers import Attached, attach
from portal.manifest.canonical import canonical_digest
from portal.settings import Settings
from portal.web.app import create_app
from tests.catalog.queries import counted
from tests.jobs.enqueued import put, rules_at
from tests.jobs.tiny_run import TRAINING, tiny_run

ASKED = {"kind": "resume", "run": "lab/tiny", "step": 10}


class Person:
    """Somebody with a token."""

    def __init__(self, app: FastAPI, engine: Engine, role: str = "publisher", name: str = "ada") -> None:
        self.http = TestClient(app, raise_server_exceptions=False)
        secret, _ = create_token(engine, role, name)
        self.headers = {"Authorization": f"Bearer {secret}"}

    def submit(self, key: str | None = None, **body: Any) -> Any:
        headers = self.headers | ({"Idempotency-Key": key} if key else {})
        return self.http.post("/api/v1/jobs", json={**ASKED, **body}, headers=headers)

    def preview(self, **body: Any) -> Any:
        return self.http.post("/api/v1/jobs/preview", json={**ASKED, **body}, headers=self.headers)


@pytest.fixture
def person(app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path) -> Person:
    tiny_run(engine, settings, tmp_path / "tiny")
    return Person(app, engine)


def levels(preview: Any) -> dict[str, str]:
    return {line["code"]: line["level"] for line in preview["checks"]}


def test_a_job_is_pinned_by_hashes(person: Person, settings: Settings, engine: Engine, tmp_path: Path) -> None:
    made = person.submit(set={"lr": 0.02})
    assert made.status_code == 201, made.text
    job = made.json()
    assert made.headers["location"] == f"/api/v1/jobs/{job['id']}"
    spec = job["spec"]
    assert job["spec_digest"] == canonical_digest(spec)
    assert (spec["first_step"], spec["last_step"], spec["save_every"], spec["missing"]) == (11, 20, 5, [])
    files = {f["path"]: f["sha256"] for f in spec["base"]["files"]}
    assert set(files) == {
        "config.json",
        "model.safetensors",
        "optimizer.safetensors",
        "rng.safetensors",
        "trainer_state.json",
    }
    weights = (tmp_path / "tiny" / "step10" / "model.safetensors").read_bytes()
    assert files["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    changed = {**TRAINING["schedule"], "peak": 0.02, "start_step": 0}
    assert spec["training"] == {**TRAINING, "schedule": changed}
    assert spec["changes"] == [{"key": "schedule.peak", "from": 0.01, "to": 0.02}]
    plan = person.http.get(f"/api/v1/jobs/{job['id']}/plan")
    assert hashlib.sha256(plan.content).hexdigest() == spec["data"]["plan"]["sha256"]
    assert pq.read_table(io.BytesIO(plan.content)).num_rows == spec["data"]["plan"]["rows"] == 40
    assert {f["chunk"] for f in spec["data"]["files"]} == set(spec["data"]["chunks"])
    assert all(len(f["sha256"]) == 64 for f in spec["data"]["files"])


def test_a_preview_shows_what_a_job_would_do_and_keeps_nothing(person: Person, settings: Settings) -> None:
    before = person.http.get("/api/v1/jobs").json()["total"]
    shown = person.preview().json()
    assert shown["submittable"]
    assert person.http.get("/api/v1/jobs").json()["total"] == before
    assert not (settings.data / "store" / "blobs").exists()
    assert levels(shown) == {
        "checkpoint": "ok",
        "optimizer": "ok",
        "order": "ok",
        "tokenizer-missing": "warning",
        "no-worker": "warning",
    }
    assert shown["plan"]["confidence"] == "exact"
    batch = person.http.get("/api/v1/runs/lab/tiny/steps/11/tokens?text=false").json()
    assert [(r["chunk"], r["row"]) for r in shown["plan"]["batches"][0]["rows"]] == [
        (r["chunk"], r["row"]) for r in batch["rows"]
    ]
    lines = {s["key"]: s for s in shown["settings"]}
    assert lines["clip"]["origin"] == "main.yaml: training.clip"
    assert lines["schedule.start_step"]["origin"].startswith("not published")
    assert shown["memory"] > 0
    assert shown["download"] > shown["plan"]["size"]
    mixed = person.preview(steps=30, data={"kind": "mix", "weights": {"code": 2.0, "facts": 0.0}}).json()
    assert mixed["plan"]["sources"] == {"stories": 67, "code": 53}
    assert mixed["plan"]["confidence"] == "chosen"
    assert any("as it lies there" in note for note in mixed["plan"]["notes"])


def test_a_preview_says_which_worker_could_run_it_and_what_the_others_lack(
    person: Person, app: FastAPI, engine: Engine
) -> None:
    rules, both = app.state.jobs.rules, {"torch": "2.13", "transformers": "5.23"}
    small = {"devices": [{"name": "H200", "memory": 1 << 20}], "memory": 1 << 40, "disk": 100}
    for name, gpus, trainer, machine in (
        ("bare", 0, {"python": "3.11"}, {}),
        ("fits", 0, both, {"devices": [], "memory": 1 << 40, "disk": 1 << 40}),
        ("narrow", 0, both, {"memory": 1 << 20}),
        ("small", 1, both, small),
        ("untold", 0, {}, {"devices": "odd", "memory": None, "disk": "much"}),
    ):
        attach(engine, None, Attached(name, "process", gpus, {}, "0", trainer, "here", machine), rules)
    shown = person.preview().json()
    assert shown["workers"] == ["fits", "untold"]
    lacks = {fit["worker"]: fit["lacks"] for fit in shown["unfit"]}
    assert lacks["bare"] == ["no torch", "no transformers"]
    assert lacks["narrow"][0].startswith("1 MiB of memory, ")
    assert lacks["small"][0].startswith("100 B of disk, ")
    on_gpu = person.preview(gpus=1, labels={"site": "a"}).json()
    assert on_gpu["workers"] == []
    lacks = {fit["worker"]: fit["lacks"] for fit in on_gpu["unfit"]}
    assert lacks["fits"] == ["no label site=a", "0 GPUs of 1"]
    assert lacks["small"][1].startswith("1 MiB of GPU memory, ")
    (line,) = [line for line in on_gpu["checks"] if line["code"] == "no-worker"]
    assert "bare: no torch" in line["message"]


def test_what_is_not_published_is_asked_for(
    app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path, person: Person
) -> None:
    constants = {
        "optimizer": "AdamW",
        "lr": 3e-4,
        "lr_schedule": "cosine",
        "warmup_steps": 2,
        "beta1": 0.9,
        "beta2": 0.95,
    }
    tiny_run(engine, settings, tmp_path / "bare", "lab/bare", config=constants)
    refused = person.submit(run="lab/bare")
    assert (refused.status_code, refused.json()["code"]) == (422, "preflight-refused")
    unknown = {u["key"] for u in refused.json()["unknown"]}
    assert unknown == {
        "pad_id",
        "loss",
        "precision",
        "optimizer.eps",
        "optimizer.weight_decay",
        "optimizer.no_decay",
        "clip",
        "schedule.floor",
        "schedule.decay_to",
    }
    given = {"pad_id": 1, "loss": "mean-of-rows", "precision": "float32", "eps": 1e-8, "weight_decay": 0.1}
    given |= {"optimizer.no_decay": "vectors", "clip": None, "schedule.floor": 1e-5, "schedule.decay_to": 40}
    made = person.submit(run="lab/bare", set=given)
    assert made.status_code == 201, made.text
    assert made.json()["spec"]["training"]["schedule"]["peak"] == 3e-4
    assert person.submit(run="lab/bare", kind="replay", set=given).status_code == 201


def test_a_checkpoint_without_optimizer_goes_with_its_consequence(
    engine: Engine, settings: Settings, tmp_path: Path, person: Person
) -> None:
    tiny_run(engine, settings, tmp_path / "light", "lab/light", without=("optimizer", "rng"))
    shown = person.preview(run="lab/light").json()
    assert levels(shown)["optimizer-missing"] == "warning"
    assert "moments start at zero" in str(shown["checks"])
    assert (shown["fidelity"], shown["submittable"]) == ("weights-only", True)
    assert person.submit(run="lab/light").json()["spec"]["missing"] == ["optimizer", "rng"]


def test_bad_requests_are_told_in_full(person: Person) -> None:
    odd: list[tuple[dict[str, Any], int, str]] = [
        ({"run": "lab/nope"}, 404, "run-not-found"),
        ({"step": 11}, 404, "checkpoint-not-found"),
        ({"step": 41}, 404, "step-not-recorded"),
        ({"step": 20, "steps": 15}, 409, "order-unknown"),
        ({"step": 40}, 400, "bad-request"),
        ({"step": 30, "steps": 500}, 409, "order-unknown"),
        ({"data": {"kind": "chunks", "chunks": ["nope"]}}, 404, "chunk-not-found"),
        ({"steps": 46, "data": {"kind": "chunks", "chunks": ["a", "b"]}}, 400, "bad-request"),
        ({"data": {"kind": "mix", "weights": {"code": -1}}}, 400, "bad-request"),
        ({"data": {"kind": "mix", "weights": {"wikipedia": 2}}}, 400, "bad-request"),
        ({"steps": 0}, 400, "bad-request"),
        ({"steps": 9_000_000, "data": {"kind": "chunks", "chunks": ["a"], "repeat": True}}, 400, "bad-request"),
        ({"set": {"lr": "fast"}}, 400, "bad-request"),
        ({"set": {"clip": 0}}, 400, "bad-request"),
        ({"set": {"command": "rm -rf /"}}, 400, "bad-request"),
        ({"set": {"row_length": 5}}, 400, "bad-request"),
        ({"set": {"lr": 0.1, "schedule.peak": 0.2}}, 400, "bad-request"),
        ({"set": {"schedule.floor": 1.0}}, 400, "bad-request"),
        ({"kind": "replay", "set": {"lr": 0.02}}, 400, "bad-request"),
        ({"kind": "replay", "data": {"kind": "chunks", "chunks": ["a"]}}, 400, "bad-request"),
        ({"labels": {"a b": "c"}}, 400, "bad-request"),
        ({"code": "import os"}, 400, "bad-request"),
    ]
    for body, status, code in odd:
        told = person.submit(**body)
        assert (told.status_code, told.json()["code"]) == (status, code), (body, told.text)
        assert len(told.json()["detail"]) > 20, body
    both = person.submit(set={"lr": "fast", "clip": -1, "x": 1}).json()
    assert {f["key"] for f in both["faults"]} == {"lr", "clip", "x"}
    assert person.http.get("/api/v1/jobs").json()["total"] == 0


def test_the_same_request_with_the_same_key_is_one_job(person: Person) -> None:
    first = person.submit("k1", steps=3)
    again = person.submit("k1", steps=3)
    other = person.submit("k1", steps=4)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["job"]) == (409, first.json()["id"])
    assert person.submit(steps=3).json()["id"] != first.json()["id"]


def test_without_a_token_only_where_it_is_allowed(person: Person, settings: Settings, engine: Engine) -> None:
    assert person.http.post("/api/v1/jobs", json=ASKED).status_code == 401
    opened = create_app(settings.model_copy(update={"anonymous_jobs": True}))
    http = TestClient(opened)
    made = http.post("/api/v1/jobs", json=ASKED)
    assert (made.status_code, made.json()["submitted_by"]) == (201, "anonymous")
    elsewhere = http.post("/api/v1/jobs", json=ASKED, headers={"Origin": "https://evil.example"})
    assert elsewhere.status_code == 403
    assert http.post("/api/v1/jobs", json=ASKED, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    own = http.post("/api/v1/jobs", json=ASKED, headers={"Origin": "http://testserver"})
    assert own.status_code == 201
    assert http.post(f"/api/v1/jobs/{made.json()['id']}/cancel").json()["state"] == "cancelled"
    wrong = http.post("/api/v1/jobs", json=ASKED, headers={"Authorization": "Bearer llm360_x"})
    assert wrong.status_code == 401
    opened.state.desk.close()


def test_lists_cost_the_same_however_long_they_are(person: Person, app: FastAPI, engine: Engine) -> None:
    rules = rules_at(lambda: 1_800_000_000_000)
    served = app.state.desk.engine

    def asked(path: str) -> int:
        with counted(served) as queries:
            assert person.http.get(path).status_code == 200
        return len(queries)

    put(engine, rules)
    paths = ("/api/v1/jobs?limit=1000", "/api/v1/jobs?state=live&run=demo/tiny", "/api/v1/workers", "/api/v1/jobs/1")
    few = [asked(path) for path in paths]
    for _ in range(30):
        put(engine, rules, by="bob")
    assert [asked(path) for path in paths] == few
    page = person.http.get("/api/v1/jobs?limit=10").json()
    assert (page["total"], len(page["items"]), page["items"][0]["id"]) == (31, 10, 31)
    seen = [j["id"] for j in page["items"]]
    while page["next"]:
        page = person.http.get(f"/api/v1/jobs?limit=10&cursor={page['next']}").json()
        seen += [j["id"] for j in page["items"]]
    assert seen == list(range(31, 0, -1))
    assert person.http.get("/api/v1/jobs?mine=true", headers=person.headers).json()["total"] == 1
    for path in ("/api/v1/jobs?limit=10", "/api/v1/workers"):
        known = {"If-None-Match": person.http.get(path).headers["etag"]}
        assert (again := person.http.get(path, headers=known)).status_code == 304
        assert again.content == b""
    put(engine, rules)
    changed = person.http.get("/api/v1/jobs?limit=10", headers={"If-None-Match": known["If-None-Match"]})
    assert changed.status_code == 200
    assert 'rel="next"' in changed.headers["link"]
    assert person.http.get("/api/v1/jobs?state=nope").status_code == 400
    assert person.http.get("/api/v1/jobs?cursor=x").status_code == 400
    assert person.http.get("/api/v1/jobs/999").json()["code"] == "job-not-found"
