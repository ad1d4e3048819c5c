"""What the API's description says is what is answered: statuses, media types, methods."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from portal.settings import Settings
from portal.web.app import create_app


@pytest.fixture
def described(sqlite_settings: Settings) -> FastAPI:
    app = create_app(sqlite_settings)
    app.state.desk.close()
    return app


def test_every_operation_tells_its_refusals(described: FastAPI) -> None:
    document = described.openapi()
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            told = operation["responses"]
            assert {"400", "401", "403", "404", "503"} <= set(told), (method, path)
            if method == "head":
                assert not any("content" in answer for answer in told.values()), path
                continue
            assert told["404"] == {"$ref": "#/components/responses/NotFound"}
            assert ("422" in told) or method == "get", (method, path)
            if path.endswith(".csv"):
                assert list(told["200"]["content"]) == ["text/csv"]
    problem = document["components"]["responses"]["NotFound"]["content"]
    assert list(problem) == ["application/problem+json"]


def test_columns_may_come_as_base64(described: FastAPI) -> None:
    buckets = described.openapi()["components"]["schemas"]["SeriesBuckets"]["properties"]
    kinds = [kind.get("type") for kind in buckets["mean"]["anyOf"]]
    assert "array" in kinds
    assert "object" in kinds


def test_an_address_tells_every_method_it_knows(client: TestClient) -> None:
    known = {"/api/v1/jobs": "GET, HEAD, POST", "/api/v1/releases": "POST", "/api/v1/runs": "GET, HEAD"}
    known[f"/api/v1/blobs/{'0' * 64}"] = "HEAD, PUT"
    for path, methods in known.items():
        answer = client.request("PATCH", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods), path
        assert answer.json()["remedy"] == f"Use {methods}."


def test_what_programs_ask_for_fails_as_a_problem(client: TestClient) -> None:
    for path in ("/.well-known/portal-keys/nobody", "/api/v1/runs/nobody/nothing", f"/files/{'0' * 64}/x"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert re.match("application/problem", answer.headers["content-type"]), path
