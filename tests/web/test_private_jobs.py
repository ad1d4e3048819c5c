"""Jobs on private runs: their workers read what they need and no more, and what comes out is as private."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from portal.catalog.accounts import create_token
from portal.catalog.visibility import set_visibility
from portal.settings import Settings
from tests.web.test_jobs_results import Lab


@pytest.fixture
def lab(app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path) -> Lab:
    lab = Lab(app, engine, settings, tmp_path)
    set_visibility(engine, lab.run.run, "private")
    return lab


def test_a_private_run_is_trained_on_and_what_comes_out_is_private(lab: Lab, engine: Engine) -> None:
    organisation = lab.run.run.split("/")[0]
    lease = lab.start()
    attempt = {"Authorization": f"Bearer {lease['attempt_token']}"}
    needed = [lease["plan_url"], *(file["url"] for file in lease["files"])]
    assert len(needed) > 2
    for address in needed:
        assert lab.http.get(address, headers=attempt).status_code == 200, address
        # Neither anybody nor the worker itself, outside of its attempts.
        assert lab.http.get(address).status_code == lab.http.get(address, headers=lab.worker).status_code == 404
    assert lab.train(lease).json() == {"state": "succeeded"}
    assert lab.http.get(needed[1], headers=attempt).status_code == 404
    job = lab.http.get(f"/api/v1/jobs/{lease['job']}", headers=lab.person).json()
    assert lab.http.get(f"/api/v1/jobs/{lease['job']}").status_code == 404
    for name, status in ((organisation, 200), ("other", 404)):
        secret, _ = create_token(engine, "reader", None, name)
        asked = lab.http.get(f"/api/v1/runs/{job['derived_run']}", headers={"Authorization": f"Bearer {secret}"})
        assert asked.status_code == status
    assert lab.http.get("/api/v1/runs").json()["total"] == 0


def test_a_worker_of_another_organisation_is_not_given_it(lab: Lab, engine: Engine) -> None:
    wish = {"kind": "replay", "run": lab.run.run, "step": 10}
    assert lab.http.post("/api/v1/jobs", json=wish, headers=lab.person).status_code == 201
    for organisation, status in (("other", 204), (lab.run.run.split("/")[0], 200)):
        secret, _ = create_token(engine, "worker", None, organisation)
        bearer = {"Authorization": f"Bearer {secret}"}
        worker = lab.http.post("/api/v1/workers", json={"name": organisation}, headers=bearer).json()["worker"]
        asked = lab.http.post(f"/api/v1/workers/{worker}/lease", json={"free_slots": 1, "wait": 0}, headers=bearer)
        assert asked.status_code == status
