"""What comes out of jobs: success only with outputs that are what they say, a verdict with evidence, one derived run."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from safetensors.numpy import load_file, save_file
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.catalog.jobs.attempts import AttemptKey, Completion, accept
from portal.catalog.jobs.rules import JobRules
from portal.jobs.reaper import Reaper
from portal.settings import Settings
from portal.storage.blobs import open_blobs
from tests.jobs.tiny_run import TinyRun, tiny_run

Change = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


class Lab:
    """A portal with a person, a worker and a run, all over HTTP; files are put into the store by the way."""

    def __init__(self, app: FastAPI, engine: Engine, settings: Settings, folder: Path) -> None:
        self.http = TestClient(app, raise_server_exceptions=False)
        self.settings, self.folder = settings, folder
        self.run: TinyRun = tiny_run(engine, settings, folder / "tiny")
        person, _ = create_token(engine, "publisher", "ada")
        self.person = {"Authorization": f"Bearer {person}"}
        worker, _ = create_token(engine, "worker", "box")
        self.worker = {"Authorization": f"Bearer {worker}"}
        self.worker_id = self.http.post("/api/v1/workers", json={"name": "box"}, headers=self.worker).json()["worker"]
        self.blobs = open_blobs(settings)

    def start(self, **body: Any) -> Any:
        asked = {"kind": "replay", "run": self.run.run, "step": 10, **body}
        made = self.http.post("/api/v1/jobs", json=asked, headers=self.person)
        assert made.status_code == 201, made.text
        return self.lease()

    def lease(self) -> Any:
        answer = self.http.post(f"/api/v1/workers/{self.worker_id}/lease", json={"free_slots": 1}, headers=self.worker)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def say(self, lease: Any, what: str, **body: Any) -> Any:
        return self.http.post(
            f"/api/v1/jobs/{lease['job']}/attempts/{lease['attempt']}/{what}",
            json={"fence": lease["fence"], **body},
            headers={"Authorization": f"Bearer {lease['attempt_token']}"},
        )

    def hand_in(self, lease: Any, step: int, kind: str, files: dict[str, bytes]) -> Any:
        listed = []
        for name, data in files.items():
            path = self.folder / "handed"
            path.write_bytes(data)
            sha256 = hashlib.sha256(data).hexdigest()
            self.blobs.put_file(path, sha256)
            listed.append({"path": name, "size": len(data), "sha256": sha256, "role": "weights"})
        return self.say(lease, "outputs", step=step, kind=kind, files=listed)

    def published(self, step: int, change: Change | None = None, **others: bytes) -> dict[str, bytes]:
        """Files of a published checkpoint, its weights changed."""
        files = {p.name: p.read_bytes() for p in (self.run.folder / f"step{step}").iterdir()}
        if change is not None:
            path = self.folder / "changed.safetensors"
            save_file(change(load_file(self.run.folder / f"step{step}" / "model.safetensors")), path, {"format": "pt"})
            files["model.safetensors"] = path.read_bytes()
        return files | {name.replace("_DOT_", "."): data for name, data in others.items()}

    def losses(self, first: int, last: int, shift: Callable[[int], float] = lambda _step: 0.0) -> list[Any]:
        values = {s: float(self.run.losses[s - 1]) + shift(s) for s in range(first, last + 1)}
        return [{"step": s, "name": "loss", "value": "NaN" if math.isnan(v) else v} for s, v in values.items()]

    def train(self, lease: Any, change: Change | None = None, shift: Callable[[int], float] = lambda _s: 0.0) -> Any:
        """The whole attempt, of a worker that does everything right."""
        spec = lease["spec"]
        self.say(lease, "heartbeat", phase="running", step=spec["last_step"])
        self.say(lease, "metrics", points=self.losses(spec["first_step"], spec["last_step"], shift))
        handed = self.hand_in(lease, spec["last_step"], "final", self.published(spec["last_step"], change))
        assert handed.status_code == 200, handed.text
        return self.say(lease, "complete", outcome="succeeded", exit_code=0, environment={"torch": "2.13"})

    def job(self, lease: Any) -> Any:
        return self.http.get(f"/api/v1/jobs/{lease['job']}").json()


@pytest.fixture
def lab(app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path) -> Iterator[Lab]:
    return Lab(app, engine, settings, tmp_path)


def test_a_replay_that_comes_out_the_same_is_exact(lab: Lab) -> None:
    lease = lab.start()
    assert lab.train(lease).json() == {"state": "succeeded"}
    job = lab.job(lease)
    assert (job["state"], job["verdict"], job["derived_run"]) == ("succeeded", "exact", "derived/tiny-s10-j1")
    losses = job["fidelity"]["losses"]
    assert (losses["compared"], losses["equal"]) == (10, 10)
    (checkpoint,) = job["fidelity"]["checkpoints"]
    assert (checkpoint["step"], checkpoint["weights"]["equal"], checkpoint["optimizer"]["equal"]) == (20, 3, 6)
    assert lab.say(lease, "complete", outcome="succeeded", exit_code=0, environment={"torch": "2.13"}).json() == {
        "state": "succeeded"
    }
    assert lab.say(lease, "complete", outcome="failed").status_code == 409
    for path, steps in (("", [20]), ("/checkpoints/10", [20]), ("/checkpoints/20", [20])):
        (badge,) = lab.http.get(f"/api/v1/runs/lab/tiny{path}").json()["verdicts"]
        assert (badge["job"], badge["verdict"], badge["compared_steps"]) == (lease["job"], "exact", steps)
    assert lab.http.get("/api/v1/runs/lab/tiny/checkpoints/30").json()["verdicts"] == []
    run = lab.http.get("/api/v1/runs/derived/tiny-s10-j1").json()
    assert (run["summary"]["kind"], run["summary"]["version"]) == ("resume", 1)
    lineage = lab.http.get("/api/v1/runs/derived/tiny-s10-j1/lineage").json()
    assert lineage["parents"][0]["run"] == "lab/tiny"
    assert lab.http.get("/api/v1/runs/lab/tiny/lineage").json()["children"][0]["run"] == "derived/tiny-s10-j1"
    mine = lab.http.get("/api/v1/runs/derived/tiny-s10-j1/steps/15/tokens?text=false").json()
    theirs = lab.http.get("/api/v1/runs/lab/tiny/steps/15/tokens?text=false").json()
    assert [r["token_ids"] for r in mine["rows"]] == [r["token_ids"] for r in theirs["rows"]]
    assert mine["order"]["confidence"] == "exact"
    drawn = lab.http.get("/api/v1/runs/derived/tiny-s10-j1/metrics/loss.csv").text.split()
    published = lab.http.get("/api/v1/runs/lab/tiny/metrics/loss.csv").text.split()
    assert len(drawn) == 11
    assert set(drawn) <= set(published)
    configs = lab.http.get("/api/v1/runs/derived/tiny-s10-j1/configs").json()
    assert "fidelity" in json.dumps(configs)
    file = lab.http.get("/api/v1/runs/derived/tiny-s10-j1/checkpoints/20").json()["files"]
    weights = next(f for f in file if f["path"].endswith("model.safetensors"))
    got = lab.http.get(f"/files/{weights['sha256']}/model.safetensors")
    assert hashlib.sha256(got.content).hexdigest() == weights["sha256"]
    assert lab.start(
        kind="resume", run="derived/tiny-s10-j1", step=20, steps=2, data={"kind": "chunks", "chunks": ["a"]}
    )


def nudge(by: float, scale: float = 1.0) -> Change:
    return lambda tensors: {name: (value * scale + by).astype(value.dtype) for name, value in tensors.items()}


def test_verdicts_turn(lab: Lab) -> None:
    near = lab.start()
    lab.train(near, nudge(3e-7), lambda _step: 2e-7)
    job = lab.job(near)
    assert job["verdict"] == "equivalent"
    assert 1e-7 < job["fidelity"]["losses"]["max_abs"] < 3e-7
    assert 1e-7 < job["fidelity"]["checkpoints"][0]["weights"]["max_abs"] < 1e-6
    assert job["fidelity"]["tolerance"]["loss"] == 1e-4
    far = lab.start()
    lab.train(far, None, lambda step: 0.06 if step >= 17 else 0.0)
    job = lab.job(far)
    assert (job["verdict"], job["fidelity"]["left_at"]) == ("diverged", 17)
    assert "step 17" in job["fidelity"]["sentence"]
    wrong = lab.start()
    lab.train(wrong, nudge(0.0, 1.01))
    job = lab.job(wrong)
    assert (job["verdict"], job["fidelity"]["left_at"]) == ("diverged", 20)


def test_there_is_no_verdict_over_what_cannot_be_compared(lab: Lab) -> None:
    other = lab.start(kind="resume", set={"lr": 0.02})
    lab.train(other)
    job = lab.job(other)
    assert (job["verdict"], job["state"]) == (None, "succeeded")
    assert "schedule.peak" in job["fidelity"]["sentence"]
    chosen = lab.start(kind="resume", data={"kind": "chunks", "chunks": ["a", "b"]})
    lab.train(chosen)
    assert lab.job(chosen)["verdict"] is None
    own = lab.start(kind="resume", steps=5)
    lab.say(own, "metrics", points=lab.losses(11, 15))
    files = {"model.safetensors": lab.published(20)["model.safetensors"]}
    assert lab.hand_in(own, 15, "final", files).status_code == 200
    assert lab.say(own, "complete", outcome="succeeded", exit_code=0).json() == {"state": "succeeded"}
    job = lab.job(own)
    assert job["verdict"] == "equivalent", "equal losses alone prove no weights"
    assert "No published checkpoint" in job["fidelity"]["sentence"]


def test_a_worker_that_lies_is_found_out(lab: Lab) -> None:
    good = lab.published(20)
    lease = lab.start()
    unsent = [{"path": "model.safetensors", "size": 5, "sha256": "0" * 64, "role": "weights"}]
    missing = lab.say(lease, "outputs", step=20, kind="final", files=unsent)
    assert (missing.status_code, missing.json()["code"], missing.json()["missing"]) == (409, "blob-missing", ["0" * 64])
    sha256 = hashlib.sha256(good["model.safetensors"]).hexdigest()
    lab.hand_in(lease, 20, "partial", good)
    wrong_size = [{"path": "model.safetensors", "size": 5, "sha256": sha256, "role": "weights"}]
    assert lab.say(lease, "outputs", step=20, kind="final", files=wrong_size).json()["code"] == "integrity"
    odd: list[tuple[int, str, dict[str, bytes]]] = [
        (20, "final", {"model.safetensors": good["model.safetensors"][:-8]}),
        (20, "final", {"model.safetensors": b"\x80\x04pickle" * 10}),
        (20, "final", {"config.json": b"{}"}),
        (20, "final", {**good, "trainer_state.json": b'{"step": 19}'}),
        (20, "final", {**good, "optimizer.safetensors": b"nothing"}),
        (20, "final", lab.published(20, lambda t: {**t, "model.layer.weight": np.ones((8, 4), np.float32)})),
        (20, "final", lab.published(20, lambda t: {**t, "model.layer.weight": np.ones((8, 8), np.float16)})),
        (20, "final", lab.published(20, lambda t: {k: v for k, v in t.items() if "norm" not in k})),
        (20, "final", lab.published(20, lambda t: {**t, "extra": np.ones(2, np.float32)})),
    ]
    for step, kind, files in odd:
        refused = lab.hand_in(lease, step, kind, files)
        assert (refused.status_code, refused.json()["code"]) == (422, "data-fault"), (sorted(files), refused.text)
    assert lab.hand_in(lease, 21, "partial", good).status_code == 400
    assert lab.hand_in(lease, 19, "final", good).status_code == 400
    assert lab.hand_in(lease, 20, "final", {"../model.safetensors": good["model.safetensors"]}).status_code == 400
    assert lab.say(lease, "complete", outcome="succeeded", exit_code=0).json() == {"state": "failed"}
    assert "No final checkpoint" in lab.job(lease)["message"]

    holes = lab.start()
    lab.say(holes, "metrics", points=lab.losses(11, 19))
    lab.hand_in(holes, 20, "final", good)
    assert lab.say(holes, "complete", outcome="succeeded", exit_code=0).json() == {"state": "failed"}
    assert "1 of 10 steps have no loss, the first is step 20" in lab.job(holes)["message"]

    broken = lab.start()
    lab.say(broken, "metrics", points=lab.losses(11, 20))
    lab.hand_in(
        broken, 20, "final", lab.published(20, lambda t: {**t, "model.norm.weight": np.full(8, np.nan, np.float32)})
    )
    assert lab.say(broken, "complete", outcome="succeeded", exit_code=0).json() == {"state": "failed"}
    assert "'model.norm.weight' is not finite" in lab.job(broken)["message"]
    assert lab.http.get("/api/v1/runs").json()["total"] == 1


def test_a_loss_that_is_no_number_midway_is_kept_and_told(lab: Lab) -> None:
    lease = lab.start()
    assert lab.train(lease, None, lambda step: math.nan if step == 15 else 0.0).json() == {"state": "succeeded"}
    job = lab.job(lease)
    assert (job["verdict"], job["fidelity"]["losses"]["left_at"]) == ("diverged", 15)
    told = lab.http.get(f"/api/v1/jobs/{lease['job']}/metrics").json()
    assert [(p["step"], p["value"]) for p in told if p["special"] == "NaN"] == [(13, None), (15, None)], (
        "13 is the run's own"
    )
    assert "nan" in lab.http.get(f"/api/v1/runs/{job['derived_run']}/metrics/loss.csv").text.lower()


def test_an_accepted_result_is_published_after_a_crash(lab: Lab, engine: Engine, settings: Settings) -> None:
    lease = lab.start()
    lab.say(lease, "metrics", points=lab.losses(11, 20))
    lab.hand_in(lease, 20, "final", lab.published(20))
    key = AttemptKey(lease["job"], lease["attempt"], lease["fence"])
    rules = JobRules()
    accept(engine, key, Completion("succeeded", 0, False, "", {}, None, "digest"), rules)
    assert lab.job(lease)["state"] == "publishing"
    refused = lab.http.post(f"/api/v1/jobs/{lease['job']}/cancel", headers=lab.person)
    assert refused.status_code == 409
    assert lab.say(lease, "heartbeat", phase="publishing").json()["cancel"] == "no"
    reaper = Reaper(settings, engine, rules)
    reaper.work_once()
    reaper.work_once()
    job = lab.job(lease)
    assert (job["state"], job["verdict"], job["derived_version"]) == ("succeeded", "exact", 1)
    assert lab.http.get(f"/api/v1/runs/{job['derived_run']}").json()["summary"]["version"] == 1


def test_a_preempted_attempt_goes_on_from_its_last_checkpoint(lab: Lab) -> None:
    first = lab.start()
    lab.say(first, "metrics", points=lab.losses(11, 15))
    assert lab.hand_in(
        first, 15, "partial", lab.published(10, None, trainer_state_DOT_json=b'{"step": 15}')
    ).json() == {"resume_from": 15}
    assert lab.say(first, "complete", outcome="preempted", exit_code=75).json() == {"state": "queued"}
    second = lab.lease()
    assert (second["attempt"], second["resume"]["step"]) == (2, 15)
    for file in second["resume"]["files"]:
        got = lab.http.get(file["url"].removeprefix("http://testserver"))
        assert hashlib.sha256(got.content).hexdigest() == file["sha256"]
    lab.say(second, "metrics", points=lab.losses(16, 20))
    lab.hand_in(second, 20, "final", lab.published(20))
    assert lab.say(second, "complete", outcome="succeeded", exit_code=0).json() == {"state": "succeeded"}
    job = lab.job(second)
    assert (job["verdict"], [a["outcome"] for a in job["attempt_list"]]) == ("exact", ["preempted", "succeeded"])
    events = lab.http.get(f"/api/v1/runs/{job['derived_run']}/events").json()["items"]
    assert [(e["step"], e["kind"]) for e in events if e["kind"] == "restart"] == [(16, "restart")]
    steps = lab.http.get(f"/api/v1/runs/{job['derived_run']}/checkpoints").json()["items"]
    assert [c["step"] for c in steps] == [15, 20]


def test_a_job_whose_run_is_withdrawn_before_it_starts_says_so(lab: Lab) -> None:
    asked = {"kind": "replay", "run": lab.run.run, "step": 10}
    job = lab.http.post("/api/v1/jobs", json=asked, headers=lab.person).json()["id"]
    told = {"reason": "Its data held <b>names</b>."}
    done = lab.http.post(f"/api/v1/runs/{lab.run.run}/withdraw", json=told, headers=lab.person).json()
    assert (done["jobs_ended"], done["jobs_running"]) == ([job], [])
    found = lab.http.get(f"/api/v1/jobs/{job}").json()
    assert (found["state"], "Its data held <b>names</b>." in found["message"]) == ("cancelled", True)
    page = lab.http.get(f"/jobs/{job}").text
    assert "Its data held &lt;b&gt;names&lt;/b&gt;." in page
    again = lab.http.post(f"/api/v1/jobs/{job}/retry", headers=lab.person)
    assert (again.status_code, again.json()["code"]) == (410, "withdrawn")
    asked_for = lab.http.post(
        f"/api/v1/workers/{lab.worker_id}/lease", json={"free_slots": 1, "wait": 0}, headers=lab.worker
    )
    assert asked_for.status_code == 204
