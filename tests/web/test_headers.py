"""Security headers on every kind of answer of every route."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from portal.web.headers import POLICY
from portal.web.permissions import ANYONE, PERMISSIONS
from tests.builders import SmallRun

VALUES = {
    "org": "lab",
    "name": "small",
    "step": "5",
    "chunk": "chunk_0",
    "series": "train/loss",
    "row": "1",
    "span": "2-4",
    "kind": "meta4",
    "key_id": "current",
    "job": "1",
    "finding": "none",
}
QUERIES = {
    # The first ending that fits counts.
    "/compare/figure": "?run=lab/small&run=lab/small@5&series=lr",
    "/metrics/data": "?series=lr",
    "/figure": "?series=lr",
    "/figure.csv": "?series=lr",
    "/compare": "?run=lab/small&run=lab/small@5",
}
BROKEN = {
    "org": "nobody",
    "step": "99999",
    "chunk": "none",
    "series": "none",
    "row": "9999",
    "span": "x",
    "sha256": "0" * 64,
    "kind": "none",
    "key_id": "none",
}
NOT_HERE = ("/blocks/", "/model.sig", "/provenance", "/pair.sig", "/portal-keys/", "/signatures/", "/jobs/")
NOT_HERE += ("/findings/", "/account", "/sign-in/oidc")
"""Only publishing hashes blocks, this portal has no key, nobody submitted a job, nothing was found, nobody signed in, and
there is no identity provider: there are none of these."""
HUB = re.compile(r"/api/(models|datasets|whoami)|/(datasets/)?\{(org|name)\}/")
"""What the Hub's clients ask may be read from any page, so its headers differ."""
SAME = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
FILE = SAME | {"content-security-policy": "default-src 'none'; sandbox"}


def _addresses(small: SmallRun, values: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    body = (small.folder / "step10" / "model.safetensors").read_bytes()
    known = {"sha256": hashlib.sha256(body).hexdigest(), "path:path": "css/parts.css"} | values
    for (method, route), role in PERMISSIONS.items():
        if HUB.match(route) or role != ANYONE:
            continue
        path = route
        for name, value in known.items():
            file = "model.safetensors" if name == "name" and route.startswith("/files/") else value
            path = path.replace(f"{{{name}}}", file).replace(f"{{{name}:path}}", file)
        if route == "/static/{path:path}":
            path = "/static/css/parts.css" if values.get("org") == "lab" else "/static/none.css"
        assert "{" not in path
        ending = next((query for end, query in QUERIES.items() if route.endswith(end)), "")
        yield method, route, path + ending


def _check(answer: object, route: str, what: str, status: int) -> None:
    headers = answer.headers  # type: ignore[attr-defined]
    wanted = FILE if route.startswith("/files/") and status in (200, 206) else SAME
    for name, value in wanted.items():
        assert headers.get_list(name) == [value], (what, status, name)
    assert "server" not in headers


@pytest.mark.parametrize("kind", ["found", "absent", "part", "head", "again", "range", "redirected"])
def test_every_answer_of_every_route_has_them(client: TestClient, small: SmallRun, kind: str) -> None:
    seen = set()
    for method, route, path in _addresses(small, VALUES | (BROKEN if kind == "absent" else {})):
        headers = {"part": {"HX-Request": "true", "HX-Target": "main"}, "range": {"Range": "bytes=0-3"}}.get(kind, {})
        if kind == "head":
            method = "HEAD"
        answer = client.request(method, path, headers=headers, follow_redirects=False)
        if kind == "again" and "etag" in answer.headers:
            answer = client.request(method, path, headers={"If-None-Match": answer.headers["etag"]})
            assert answer.status_code == 304, path
        if kind == "redirected":
            answer = client.request(method, path.split("?")[0] + "/", follow_redirects=False)
        _check(answer, route, f"{method} {path}", answer.status_code)
        seen.add(answer.status_code)
        if kind == "found":
            # Signing in asks for a page of the portal's own.
            absent = any(part in path for part in NOT_HERE) or (method == "POST" and path.startswith("/sign-"))
            assert answer.status_code in (200, 302) or absent, (path, answer.text[:300])
        if kind == "absent" and "{" in route:
            assert answer.status_code in (400, 404), path
    assert seen >= {
        "found": {200, 302}, "absent": {404}, "part": {200}, "head": {200}, "again": {304}, "range": {206}, "redirected": {307},
    }[kind]  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_refused_methods_have_them_too(client: TestClient, method: str) -> None:
    for path in ("/", "/api/v1/runs", "/static/css/parts.css", "/runs/lab/small", "/api/docs"):
        answer = client.request(method, path)
        assert answer.status_code == 405
        _check(answer, path, f"{method} {path}", 405)


def test_a_fault_of_the_portal_has_them_too(app: FastAPI, client: TestClient) -> None:
    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("secret inside")

    answer = client.get("/broken")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    _check(answer, "/broken", "GET /broken", 500)


def test_the_policy_lets_nothing_inline_run() -> None:
    directives = dict(part.split(" ", 1) for part in POLICY.split("; "))
    assert directives["default-src"] == directives["frame-ancestors"] == directives["base-uri"] == "'none'"
    assert directives["script-src"] == directives["form-action"] == "'self'"
    assert not [word for word in ("unsafe", "*", "http:", "https:", "blob:") if word in POLICY]


def test_hub_answers_are_open_to_other_origins_and_never_rendered(client: TestClient) -> None:
    """Clients in other pages may read them; a hostile file still is a download without rights of the portal's origin."""
    for path in ("/api/models/lab/small", "/lab/small/resolve/main/README.md", "/lab/small/resolve/nope/x"):
        headers = client.get(path, follow_redirects=False).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["access-control-allow-origin"] == "*", path
        assert "access-control-allow-credentials" not in headers, path
        assert headers["content-security-policy"].startswith("default-src 'none'"), path
    file = client.get("/lab/small/resolve/main/README.md").headers
    assert file["content-disposition"].startswith("attachment")
    assert "sandbox" in file["content-security-policy"]
