"""PORTAL_ANONYMOUS_READING=false: whoever is not signed in is led to sign in, and sees nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import create_token
from portal.settings import Settings
from portal.web.app import create_app
from portal.web.permissions import OF_NONE, PERMISSIONS, is_always_open, subject_of
from tests.builders import small_run
from tests.web.private import OPEN, Things, address_of

ROUTES = [path for method, path in PERMISSIONS if method == "GET" and not is_always_open(path)]


@pytest.fixture
def settings(sqlite_settings: Settings) -> Settings:
    return sqlite_settings.model_copy(update={"anonymous_reading": False})


@pytest.fixture
def closed(settings: Settings, engine: Engine, tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(settings)
    small_run(engine, settings, tmp_path / "release", OPEN)
    yield TestClient(app, raise_server_exceptions=False, follow_redirects=False)
    app.state.desk.close()


def test_every_route_wants_somebody_who_is_signed_in(closed: TestClient, engine: Engine) -> None:
    secret, _ = create_token(engine, "reader", None, "lab")
    signed_in = {"Authorization": f"Bearer {secret}"}
    for path in ROUTES:
        address = address_of(path, Things(OPEN, "f" * 64, 9))
        told = closed.get(address)
        assert told.status_code in (401, 303), path
        assert OPEN.split("/")[1] not in told.text, path
        if told.status_code == 303:
            assert told.headers["location"].startswith("/sign-in?to=%2F"), path
        else:
            assert told.headers["www-authenticate"] == "Bearer"
        assert told.headers["x-content-type-options"] == "nosniff"
        for bad in ("Bearer llm360_nope", "Bearer hf_other", "Basic eDp5"):
            assert closed.get(address, headers={"Authorization": bad}).status_code in (401, 303), path
        if path != "/account":
            # That one is for browsers alone.
            assert closed.get(address, headers=signed_in).status_code not in (401, 403, 303), path


def test_what_has_to_be_open_is(closed: TestClient) -> None:
    open_routes = [path for method, path in PERMISSIONS if method == "GET" and is_always_open(path)]
    assert {"/healthz", "/readyz", "/sign-in", "/.well-known/portal-keys"} <= set(open_routes)
    for path in ("/healthz", "/readyz", "/sign-in", "/.well-known/portal-keys", "/static/css/parts.css"):
        assert closed.get(path).status_code == 200, path
    for path in ("/healthz/x", "/sign-ins/x", "/sign-inx", "/readyz/../", "/statics/x"):
        assert closed.get(path).status_code in (303, 401), path
    assert all(subject_of("GET", path) == OF_NONE for path in open_routes)


def test_signing_in_leads_back(closed: TestClient, engine: Engine) -> None:
    secret, _ = create_token(engine, "reader")
    led = closed.get(f"/runs/{OPEN}?step=3&x=a%20b")
    assert led.headers["location"] == f"/sign-in?to=%2Fruns%2F{OPEN.replace('/', '%2F')}%3Fstep%3D3%26x%3Da%2520b"
    form = closed.get(led.headers["location"])
    assert f'value="/runs/{OPEN}?step=3&amp;x=a%20b"' in form.text
    done = closed.post(
        "/sign-in",
        data={"token": secret, "to": f"/runs/{OPEN}?step=3"},
        headers={"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"},
    )
    assert (done.status_code, done.headers["location"]) == (303, f"/runs/{OPEN}?step=3")
    assert closed.get(f"/runs/{OPEN}").status_code == 200
    part = TestClient(closed.app, follow_redirects=False).get(f"/runs/{OPEN}", headers={"HX-Request": "true"})
    assert (part.status_code, part.headers["hx-redirect"]) == (401, f"/sign-in?to=%2Fruns%2F{OPEN.replace('/', '%2F')}")


def test_clients_of_the_hub_are_told_to_sign_in(closed: TestClient) -> None:
    for address in (f"/api/models/{OPEN}", f"/{OPEN}/resolve/main/config.json", "/api/datasets"):
        told = closed.get(address)
        assert (told.status_code, told.headers["x-error-code"]) == (401, "RepoNotFound")
