"""Every route is in the permission table, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.accounts import ROLES, create_token, list_tokens, revoke_token
from portal.database import open_session
from portal.errors import Conflict
from portal.web.headers import POLICY
from portal.web.permissions import ANYONE, HOLDER, PERMISSIONS


def _routes(routes: list[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _routes(route.original_router.routes)
            continue
        for method in route.methods:
            yield method, route.path


def test_every_route_has_a_role_and_every_role_a_route(app: FastAPI) -> None:
    assert set(_routes(app.routes)) == set(PERMISSIONS)
    assert set(PERMISSIONS.values()) <= {ANYONE, HOLDER}.union(*ROLES.values())


@pytest.mark.parametrize(("method", "path"), [key for key, role in PERMISSIONS.items() if role != ANYONE])
def test_what_is_not_for_everybody_asks_for_a_token_of_the_right_role(
    client: TestClient, engine: Engine, method: str, path: str
) -> None:
    needed = PERMISSIONS[method, path]
    address = re.sub(r"\{[^}]*\}", "1", path)
    for header in ({}, {"Authorization": "Bearer llm360_nope"}, {"Authorization": "Basic eDp5"}):
        answer = client.request(method, address, headers=header)
        assert answer.status_code == 401, (header, answer.text)
        assert answer.headers["www-authenticate"] == "Bearer"
    for role, reached in ROLES.items():
        secret, _ = create_token(engine, role)
        allowed = needed == HOLDER or needed in reached
        answer = client.request(method, address, headers={"Authorization": f"Bearer {secret}"})
        assert (answer.status_code not in (401, 403)) == allowed, (role, answer.text)


def test_a_token_ends(client: TestClient, engine: Engine) -> None:
    def asked(secret: str) -> int:
        return client.get("/api/v1/whoami", headers={"Authorization": f"Bearer {secret}"}).status_code

    short, _ = create_token(engine, "reader", lifetime=timedelta(0))
    assert asked(short) == 401
    secret, view = create_token(engine, "publisher", "ada", "lab")
    assert view.last_used_at is None
    assert asked(secret) == 200
    with open_session(engine) as session:
        used, unused = list_tokens(session)
        assert (used.name, used.last_used_at is None, used.state) == ("ada", False, "active")
        assert (unused.last_used_at, unused.state) == (None, "expired")
    revoke_token(engine, "ada")
    assert asked(secret) == 401
    with pytest.raises(Conflict):
        create_token(engine, "reader", "ada")


def test_the_catalog_keeps_no_secret(engine: Engine) -> None:
    secret, view = create_token(engine, "admin")
    with engine.connect() as connection:
        kept = str(connection.exec_driver_sql("SELECT * FROM api_token").all())
    assert secret not in kept
    assert secret.startswith(view.prefix)
    assert len(secret) - len(view.prefix) >= 36


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    paths = ["/", "/api/v1/runs", "/api/v1/runs/lab/small", "/api/v1/nope", "/nope", "/api/docs", "/healthz"]
    paths += ["/static/css/parts.css", "/api/v1/runs/lab/small/steps/3", "/api/v1/runs/lab/small/steps/99"]
    for path in paths * 2:
        headers = client.get(path).headers
        assert headers["content-security-policy"] == POLICY, path
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "same-origin", path
        assert headers.get_list("content-security-policy") == [POLICY]


def test_an_error_of_the_portal_itself_is_told_without_details(app: FastAPI, client: TestClient) -> None:
    @app.get("/api/v1/broken")
    def broken() -> None:
        raise RuntimeError("secret inside")

    answer = client.get("/api/v1/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert answer.headers["content-security-policy"] == POLICY
