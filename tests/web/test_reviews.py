"""Findings one by one: their page and JSON, and the form and the route with which reviewers explain them."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.catalog.answers import FoundFinding
from portal.catalog.record import finding_key
from portal.settings import Settings
from tests.builders import record

OWN = {"Origin": "http://testserver"}
HOSTILE = "<script>alert(1)</script>\u202e"
FOUND = FoundFinding("gap", "warning", "A step is missing.", 30, {"missing": [30]})
AT = f"/runs/lab/f/findings/{finding_key(FOUND)}"


@pytest.fixture
def settings(sqlite_settings: Settings) -> Settings:
    """One database is enough for what these tests are about."""
    return sqlite_settings


@pytest.fixture(autouse=True)
def found(engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/f", "training": {"last_step": 100}}, findings=[FOUND])


def sign_in(http: TestClient, engine: Engine, role: str, organisation: str | None = None) -> str:
    secret, _ = create_token(engine, role, f"{role}-{organisation}", organisation)
    assert http.post("/sign-in", data={"token": secret}, headers=OWN).status_code == 303
    return secret


def test_a_reviewer_explains_a_finding_on_its_page(http: TestClient, engine: Engine) -> None:
    listed = http.get("/runs/lab/f/findings").text
    assert f'href="{AT}"' in listed
    assert f"/sign-in?to={AT}" in http.get(AT).text
    assert http.post(f"{AT}/review", data={"state": "explained", "note": "x"}, headers=OWN).status_code == 401
    sign_in(http, engine, "publisher")
    assert "takes the role reviewer" in http.get(AT).text
    assert http.post(f"{AT}/review", data={"state": "explained", "note": "x"}, headers=OWN).status_code == 403
    sign_in(http, engine, "reviewer", "other")
    assert "takes the role reviewer" in http.get(AT).text
    assert http.post(f"{AT}/review", data={"state": "explained", "note": "x"}, headers=OWN).status_code == 403
    sign_in(http, engine, "reviewer")
    assert f'action="{AT}/review"' in http.get(AT).text
    evil = {"Origin": "https://evil.example"}
    assert http.post(f"{AT}/review", data={"state": "explained", "note": "x"}, headers=evil).status_code == 403
    empty = http.post(f"{AT}/review", data={"state": "explained", "note": " "}, headers=OWN)
    assert (empty.status_code, "Write a note" in empty.text) == (400, True)
    done = http.post(f"{AT}/review", data={"state": "explained", "note": HOSTILE}, headers=OWN)
    assert (done.status_code, done.headers["location"]) == (303, AT)
    for page in (http.get(AT).text, http.get("/runs/lab/f/findings").text):
        assert "reviewer-None" in page
        assert "<script>alert" not in page
        assert "&lt;script&gt;" in page
        assert "U+202E" in page
    assert "Open it again" in http.get(AT).text
    again = http.post(f"{AT}/review", data={"state": "explained", "note": "x"}, headers=OWN)
    assert (again.status_code, "explained already" in again.text) == (409, True)


def test_programs_review_with_a_token(http: TestClient, engine: Engine) -> None:
    path = f"/api/v1{AT}"
    before = http.get("/api/v1/runs/lab/f/findings").json()["items"][0]
    assert (before["state"], before["reviews"]) == ("open", [])
    header = {"Authorization": f"Bearer {create_token(engine, 'reviewer', 'grace')[0]}"}
    said = http.post(f"{path}/review", json={"state": "explained", "note": "Restarted."}, headers=header)
    assert (said.status_code, said.json()["by"]) == (201, "grace")
    found = http.get(path)
    assert found.json()["reviews"] == [said.json()]
    assert http.get("/api/v1/runs/lab/f/findings").json()["items"] == [found.json()]
    assert http.get(path, headers={"If-None-Match": found.headers["etag"]}).status_code == 304
    assert http.get(f"{path}x").status_code == 404
    for body in ({"state": "explained"}, {"state": "explained", "note": "x" * 2001}, {"note": "x", "state": "fixed"}):
        assert http.post(f"{path}/review", json=body, headers=header).status_code == 400, body
