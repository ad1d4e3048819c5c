"""Accounts: tokens that people make and end themselves, never stronger than they are; and how long browsers stay signed in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlmodel import col
from starlette.testclient import TestClient

from portal.catalog.accounts import ROLES, create_token
from portal.catalog.sessions import begin_session, end_other_sessions, find_session
from portal.database import open_session
from portal.models import BrowserSession
from portal.settings import Settings
from portal.web.app import create_app

OWN = {"Origin": "http://testserver"}


@pytest.fixture
def settings(sqlite_settings: Settings) -> Settings:
    """One database is enough for what these tests are about."""
    return sqlite_settings


def sign_in(http: TestClient, secret: str) -> None:
    assert http.post("/sign-in", data={"token": secret}, headers=OWN).status_code == 303


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def made(http: TestClient, secret: str, **asked: Any) -> dict[str, Any]:
    answer = http.post("/api/v1/tokens", json={"role": "reader", **asked}, headers=bearer(secret))
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def good(http: TestClient, secret: str) -> bool:
    return http.get("/api/v1/whoami", headers=bearer(secret)).status_code == 200


def key_of(page: str) -> str:
    found = re.search(r'name="key"\s+value="([^"]+)"', page)
    assert found
    return found[1]


def test_a_token_makes_tokens_that_reach_no_more(http: TestClient, engine: Engine) -> None:
    ada, _ = create_token(engine, "publisher", "ada", "lab", timedelta(days=100))
    told = made(http, ada, name="laptop", role="publisher", runs=["lab/one", "lab/two", "lab/one"], days=10)
    assert told["token"].startswith("llm360_")
    assert (told["name"], told["organisation"], told["runs"]) == ("ada/laptop", "lab", ["lab/one", "lab/two"])
    assert (told["made_by"], told["state"]) == ("ada", "active")
    left = datetime.fromisoformat(told["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=9) < left <= timedelta(days=10)
    assert good(http, told["token"])
    usual = made(http, ada)
    assert datetime.fromisoformat(usual["expires_at"]) - datetime.now(UTC) <= timedelta(days=90)
    for asked, status in (
        ({"role": "admin"}, 403),
        ({"role": "reviewer"}, 403),
        ({"role": "worker"}, 403),
        ({"role": "king"}, 400),
        ({"organisation": "other"}, 403),
        ({"runs": ["other/run"]}, 400),
        ({"runs": ["../x"]}, 400),
        ({"runs": ["lab/x\u0000"]}, 400),
        ({"runs": ["lab/x"] * 101}, 400),
        ({"days": 101}, 403),
        ({"days": 366}, 400),
        ({"days": 0}, 400),
        ({"days": "9"}, 400),
        ({"name": "a/b"}, 400),
        ({"name": ""}, 400),
        ({"name": "laptop"}, 409),
        ({"expires": "never"}, 400),
    ):
        answer = http.post("/api/v1/tokens", json={"role": "reader", **asked}, headers=bearer(ada))
        assert answer.status_code == status, (asked, answer.text)
    child = http.post("/api/v1/tokens", json={"role": "reader"}, headers=bearer(told["token"]))
    assert (child.status_code, "makes none itself" in child.text) == (403, True)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_makes_a_token_of_a_role_beyond_it(http: TestClient, engine: Engine, role: str) -> None:
    secret, _ = create_token(engine, role)
    for wanted, reached in ROLES.items():
        answer = http.post("/api/v1/tokens", json={"role": wanted}, headers=bearer(secret))
        assert (answer.status_code == 201) == (reached <= ROLES[role]), (wanted, answer.text)


def test_a_token_bound_to_runs_changes_no_other_and_passes_no_other_on(http: TestClient, engine: Engine) -> None:
    secret, view = create_token(engine, "publisher", "bound", None, None, ["lab/one"])
    assert view.runs == ["lab/one"]
    for run, status in (("lab/one", 201), ("lab/two", 403), ("other/one", 403)):
        body = {
            "manifest": {"format": "llm360-portal/release/1", "run": run, "training": {"last_step": 1}},
            "files": {},
        }
        answer = http.post("/api/v1/releases", json=body, headers=bearer(secret))
        assert answer.status_code == status, (run, answer.text)
    refused = http.post("/api/v1/tokens", json={"role": "reader", "runs": ["lab/two"]}, headers=bearer(secret))
    assert refused.status_code == 403
    assert made(http, secret)["runs"] == ["lab/one"]
    for role in ("admin", "worker"):
        assert http.post(
            "/api/v1/tokens",
            json={"role": role, "runs": ["lab/one"]},
            headers=bearer(create_token(engine, "admin")[0]),
        ).status_code == 400  # fmt: skip


def test_tokens_of_others_are_not_there(http: TestClient, engine: Engine) -> None:
    ada, _ = create_token(engine, "publisher", "ada", "lab")
    bob, view = create_token(engine, "publisher", "bob", "lab")
    mine, yours = made(http, ada, name="one"), made(http, bob, name="two")
    listed = http.get("/api/v1/tokens", headers=bearer(ada)).json()
    assert [item["name"] for item in listed["items"]] == ["ada/one", "ada"]
    assert "token" not in listed["items"][0]
    assert "digest" not in str(listed)
    for key in (yours["id"], view.id, 10**15):
        assert http.delete(f"/api/v1/tokens/{key}", headers=bearer(ada)).status_code == 404, key
    sign_in(http, ada)
    assert http.post(f"/account/tokens/{yours['id']}/revoke", headers=OWN).status_code == 404
    assert good(http, yours["token"])
    # A token sees itself alone, not what its maker has.
    assert [t["name"] for t in http.get("/api/v1/tokens", headers=bearer(mine["token"])).json()["items"]] == ["ada/one"]
    assert http.delete(f"/api/v1/tokens/{mine['id']}", headers=bearer(mine["token"])).json()["state"] == "revoked"
    assert not good(http, mine["token"])


def test_an_administrator_sees_and_ends_all_an_organisations_its_own(http: TestClient, engine: Engine) -> None:
    root, _ = create_token(engine, "admin", "root")
    lab, _ = create_token(engine, "admin", "lab-root", "lab")
    inside, one = create_token(engine, "publisher", "ada", "lab")
    outside, two = create_token(engine, "publisher", "bob", "other")

    def seen(secret: str) -> set[str]:
        return {item["name"] for item in http.get("/api/v1/tokens", headers=bearer(secret)).json()["items"]}

    assert seen(root) == {"root", "lab-root", "ada", "bob"}
    assert seen(lab) == {"lab-root", "ada"}
    assert http.delete(f"/api/v1/tokens/{two.id}", headers=bearer(lab)).status_code == 404
    assert http.delete(f"/api/v1/tokens/{one.id}", headers=bearer(lab)).status_code == 200
    assert (good(http, inside), good(http, outside)) == (False, True)
    assert http.delete(f"/api/v1/tokens/{two.id}", headers=bearer(root)).status_code == 200


def test_revoking_ends_what_was_made_and_who_signed_in(http: TestClient, engine: Engine) -> None:
    ada, view = create_token(engine, "publisher", "ada")
    child = made(http, ada)["token"]
    cookies = [begin_session(engine, secret)[0] for secret in (ada, child)]
    sign_in(http, ada)
    assert http.post(f"/account/tokens/{view.id}/revoke", headers=OWN).status_code == 303
    assert http.get("/account").headers["location"] == "/sign-in?to=/account"
    assert (good(http, ada), good(http, child)) == (False, False)
    with open_session(engine) as session:
        assert [find_session(session, cookie) for cookie in cookies] == [None, None]


def test_a_repeated_request_makes_no_second_token(http: TestClient, engine: Engine) -> None:
    ada, _ = create_token(engine, "publisher", "ada")
    headers = bearer(ada) | {"Idempotency-Key": "once"}
    first = http.post("/api/v1/tokens", json={"role": "reader"}, headers=headers)
    again = http.post("/api/v1/tokens", json={"role": "reader"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json()["id"], again.json()["token"]) == (first.json()["id"], None)
    other = http.post("/api/v1/tokens", json={"role": "publisher"}, headers=headers)
    assert other.status_code == 422
    with engine.connect() as connection:
        kept = str(connection.exec_driver_sql("SELECT * FROM kept_reply").all())
    assert first.json()["token"] not in kept


def test_the_page_makes_shows_once_and_revokes(http: TestClient, engine: Engine) -> None:
    assert http.get("/account").headers["location"] == "/sign-in?to=/account"
    ada, _ = create_token(engine, "publisher", "ada", "lab")
    sign_in(http, ada)
    page = http.get("/account")
    assert page.headers["cache-control"] == "no-store"
    assert "publishes runs, submits jobs" in page.text
    assert "Tokens of others" not in page.text
    form = {"key": key_of(page.text), "name": "laptop", "role": "reader", "runs": "lab/one, lab/two", "days": "7"}
    assert http.post("/account/tokens", data=form, headers={"Origin": "https://evil.example"}).status_code == 403
    shown = http.post("/account/tokens", data=form, headers=OWN)
    secret = re.search(r'data-copy="(llm360_[^"]+)"', shown.text)
    assert secret
    assert "it is not shown again" in shown.text
    assert good(http, secret[1])
    again = http.post("/account/tokens", data=form, headers=OWN)
    assert "This form was sent before" in again.text
    assert secret[1] not in again.text + http.get("/account").text
    for wrong, said in (
        ({"role": "reviewer"}, "reaches more"),
        ({"days": "x"}, "whole number"),
        ({"runs": "x"}, "no run"),
    ):
        refused = http.post("/account/tokens", data=form | {"key": "another"} | wrong, headers=OWN)
        assert refused.status_code in (400, 403), wrong
        assert said in refused.text
        assert 'value="laptop"' in refused.text
    (child,) = [t for t in http.get("/api/v1/tokens", headers=bearer(ada)).json()["items"] if t["made_by"]]
    assert http.post(f"/account/tokens/{child['id']}/revoke", headers=OWN).status_code == 303
    assert not good(http, secret[1])
    without_cookie = TestClient(http.app, follow_redirects=False)
    assert without_cookie.post("/account/tokens", data=form | {"key": "z"}, headers=bearer(ada)).status_code == 400


def test_an_administrators_page_lists_everybody(http: TestClient, engine: Engine) -> None:
    root, _ = create_token(engine, "admin", "root")
    create_token(engine, "publisher", "<b>ada</b>")
    sign_in(http, root)
    page = http.get("/account").text
    assert "Tokens of others" in page
    assert "&lt;b&gt;ada&lt;/b&gt;" in page
    assert "<b>ada</b>" not in page


def test_a_session_ends_at_its_hour_however_it_is_used(http: TestClient, engine: Engine) -> None:
    secret, _ = create_token(engine, "reader")
    cookie, found = begin_session(engine, secret, timedelta(hours=2), timedelta(hours=1))
    with open_session(engine) as session:
        assert find_session(session, cookie) is not None
        _age(engine, cookie, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    with open_session(engine) as session:
        assert find_session(session, cookie) is None
    assert found.expires_at - datetime.now(UTC) <= timedelta(hours=2)


def test_an_idle_session_ends_and_a_used_one_goes_on(engine: Engine) -> None:
    secret, _ = create_token(engine, "reader")
    cookie, _ = begin_session(engine, secret, timedelta(days=7), timedelta(hours=1))
    _age(engine, cookie, created_at=datetime.now(UTC) - timedelta(minutes=50))
    with open_session(engine) as session:
        assert find_session(session, cookie) is not None
    # It was seen just now, so that its beginning counts no more.
    _age(engine, cookie, created_at=datetime.now(UTC) - timedelta(hours=5))
    with open_session(engine) as session:
        assert find_session(session, cookie) is not None
    _age(engine, cookie, seen_at=datetime.now(UTC) - timedelta(minutes=61))
    with open_session(engine) as session:
        assert find_session(session, cookie) is None
    endless, _ = begin_session(engine, secret, timedelta(days=7), timedelta(0))
    _age(engine, endless, created_at=datetime.now(UTC) - timedelta(days=6))
    with open_session(engine) as session:
        assert find_session(session, endless) is not None


def test_lifetimes_are_set(sqlite_settings: Settings, engine: Engine) -> None:
    app = create_app(sqlite_settings.model_copy(update={"session_hours": 2.0, "session_idle_hours": 0.5}))
    http = TestClient(app, follow_redirects=False)
    assert "stands for it for 2 hours, until 0.5 hours pass without use" in http.get("/sign-in").text
    answer = http.post("/sign-in", data={"token": create_token(engine, "reader")[0]}, headers=OWN)
    age = re.search(r"Max-Age=(\d+)", answer.headers["set-cookie"])
    assert age
    assert 7100 < int(age[1]) <= 7200
    app.state.desk.close()


def test_signing_in_again_is_another_session_and_ends_the_old_one(http: TestClient, engine: Engine) -> None:
    secret, _ = create_token(engine, "reader", "ada")
    sign_in(http, secret)
    old = http.cookies["portal-session"]
    sign_in(http, secret)
    new = http.cookies["portal-session"]
    with open_session(engine) as session:
        assert (find_session(session, old), old != new) == (None, True)
        signed_in = find_session(session, new)
    assert signed_in is not None
    elsewhere, _ = begin_session(engine, secret)
    assert end_other_sessions(engine, signed_in.caller, new) == 1
    with open_session(engine) as session:
        assert (find_session(session, elsewhere), find_session(session, new) is None) == (None, False)
    begin_session(engine, secret)
    assert http.post("/account/sign-out-others", headers=OWN).status_code == 303
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM browser_session").scalar() == 1


def test_jobs_of_a_made_token_are_its_makers(engine: Engine, http: TestClient) -> None:
    from portal.catalog.accounts import Caller

    ada = Caller(1, "ada", "publisher")
    assert [ada.owns(name) for name in ("ada", "ada/laptop", "adam", "anonymous", "bob/ada/x")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def _age(engine: Engine, cookie: str, **values: Any) -> None:
    import hashlib

    with open_session(engine) as session:
        mine = col(BrowserSession.digest) == hashlib.sha256(cookie.encode()).hexdigest()
        session.execute(update(BrowserSession).where(mine).values(values))
        session.commit()
