"""Every route is in the permission table, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from portal.web.headers import POLICY
from portal.web.permissions import ANYONE, PERMISSIONS


def _routes(routes: list[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _routes(route.original_router.routes)
            continue
        for method in route.methods:
            yield method, route.path


def test_every_route_has_a_role_and_every_role_a_route(app: FastAPI) -> None:
    assert set(_routes(app.routes)) == set(PERMISSIONS)
    assert set(PERMISSIONS.values()) == {ANYONE}


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
