"""Direct answers: byte for byte what the framework's own way answers, errors and headers included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.responses import Response
from starlette.testclient import TestClient

from portal.settings import Settings
from portal.web import app as web_app
from portal.web import metrics
from portal.web.direct import DirectAnswers
from tests.builders import SmallRun

RUN = "/api/v1/runs/lab/small"
METRICS, TOKENS = f"{RUN}/metrics/data", f"{RUN}/steps/3/tokens"


@pytest.fixture
def ordinary(settings: Settings, monkeypatch: pytest.MonkeyPatch, small: SmallRun) -> Iterator[TestClient]:
    """The same portal without direct answers."""
    with monkeypatch.context() as patch:
        patch.setattr(web_app, "DIRECT", ())
        app = web_app.create_app(settings)
    yield TestClient(app, raise_server_exceptions=False)
    app.state.desk.close()


OF_THIS_REQUEST = (b"x-request-id", b"ratelimit", b"ratelimit-policy")


def stable(answer: Any) -> list[tuple[bytes, bytes]]:
    """Headers but for those that are another one's with every request."""
    return [pair for pair in answer.headers.raw if pair[0] not in (*OF_THIS_REQUEST, b"content-length")]


def said(answer: Any) -> object:
    """The body; of a problem but for the request's id."""
    if "problem" in answer.headers.get("content-type", "") and answer.content:
        return {**answer.json(), "request_id": None}
    return answer.content


PATHS = [
    f"{METRICS}?series=train/loss",
    f"{METRICS}?series=train/loss,lr&buckets=5&x=tokens&first=2&last=19",
    f"{METRICS}?series=train/loss&encoding=base64&buckets=3",
    f"{METRICS}?series=train%2Floss&series=lr",
    f"{METRICS}/?series=train/loss",
    METRICS,
    f"{METRICS}?series=nope",
    f"{METRICS}?series=train/loss&encoding=xml",
    f"{METRICS}?series=train/loss&buckets=none",
    f"{RUN}/steps/3",
    f"{RUN}/steps/0",
    f"{RUN}/steps/99",
    f"{RUN}/steps/three",
    f"{RUN}/steps/%00",
    f"{RUN}/steps/3/",
    f"{RUN}/steps/3%2Ftokens",
    "/api/v1/runs/lab/none/steps/3",
    "/api/v1/runs/lab/none/metrics/data?series=lr",
    "/api/v1/runs/lab/%F0%9F%99%82/steps/3",
    TOKENS,
    f"{TOKENS}?first=1&count=2&text=false",
    f"{TOKENS}?text=perhaps",
    f"{TOKENS}?first=",
    f"{TOKENS}?count=1001",
    f"{TOKENS}?format=npy",
    f"{TOKENS}?format=exe",
    f"{RUN}/steps/0/tokens",
    f"{RUN}/steps/99/tokens",
]
HEADERS: list[dict[str, str]] = [{}, {"If-None-Match": "*"}, {"If-None-Match": '"other"'}, {"HX-Request": "true"}]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_the_short_way_answers_what_the_long_way_does(client: TestClient, ordinary: TestClient, method: str) -> None:
    # Twice, as the second answer may come from facts or bytes at hand.
    for path in PATHS * 2:
        for headers in HEADERS:
            sent = {"Accept-Encoding": "identity", **headers}
            ours, theirs = (c.request(method, path, headers=sent) for c in (client, ordinary))
            assert ours.status_code == theirs.status_code, path
            assert said(ours) == said(theirs), path
            assert stable(ours) == stable(theirs), path


def test_an_etag_of_one_way_is_good_for_the_other(client: TestClient, ordinary: TestClient) -> None:
    for path in (PATHS[0], f"{RUN}/steps/3", TOKENS):
        headers = {"If-None-Match": ordinary.get(path).headers["etag"]}
        ours, theirs = client.get(path, headers=headers), ordinary.get(path, headers=headers)
        assert (ours.status_code, ours.content) == (304, b"")
        assert stable(ours) == stable(theirs)


def test_the_framework_is_not_asked(client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise AssertionError("the router was asked")

    client.get("/healthz")
    monkeypatch.setattr(app.router, "middleware_stack", refuse)
    for path in (PATHS[0], f"{RUN}/steps/3", TOKENS):
        assert client.get(path).status_code == 200
    assert client.get(RUN).status_code == 500


def test_a_portal_below_a_prefix_answers_the_same(client: TestClient, app: FastAPI) -> None:
    below = TestClient(app, root_path="/portal", raise_server_exceptions=False)
    assert below.get(f"/portal{RUN}/steps/3").content == client.get(f"{RUN}/steps/3").content


def test_a_fault_of_the_portal_is_told_in_the_same_way(
    client: TestClient, ordinary: TestClient, small: SmallRun
) -> None:
    (small.folder / "chunk_0.jsonl").unlink()
    ours, theirs = client.get(TOKENS), ordinary.get(TOKENS)
    assert (ours.status_code, said(ours)) == (theirs.status_code, said(theirs))
    assert ours.json()["code"] == "file-missing"
    assert stable(ours) == stable(theirs)


def test_only_open_routes_without_dependencies_are_answered_directly(app: FastAPI) -> None:
    router = APIRouter()

    async def secret(request: Request) -> Response:
        return Response()

    async def guarded(request: Request) -> Response:
        return Response()

    router.get("/api/v1/secret")(secret)
    router.get("/healthz", dependencies=[Depends(secret)])(guarded)
    for own, answer in ((router, secret), (router, guarded), (metrics.pages, metrics.read_metric_data)):
        with pytest.raises(ValueError, match="cannot be answered directly"):
            DirectAnswers(app, [(own, answer)])
