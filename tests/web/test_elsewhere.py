"""Files elsewhere: redirects to signed and public addresses, the bytes themselves where told, readable by any page."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.exchange.places import path_in_uri
from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import many_checkpoints
from tests.elsewhere import RUN, ElsewhereRun, elsewhere_run
from tests.seaweed import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedServer
from tests.storage.places import Place, https_place, hub_place, s3_place

KINDS = ["https", pytest.param("s3", marks=pytest.mark.xdist_group("seaweed")), "hub"]
WEIGHTS = "step10/model.safetensors"


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "s3":
        made = s3_place(request.getfixturevalue("s3_server"))
    else:
        made = {"https": https_place, "hub": hub_place}[request.param]()
    with made as found:
        yield found


@contextmanager
def portal(settings: Settings) -> Iterator[TestClient]:
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        yield client
    app.state.desk.close()


@pytest.fixture
def run(engine: Engine, settings: Settings, tmp_path: Path, place: Place) -> ElsewhereRun:
    return elsewhere_run(engine, settings, tmp_path / "release", place)


def resolve(revision: str = "step-10", path: str = "model.safetensors") -> str:
    return f"/{RUN}/resolve/{revision}/{path}"


def test_a_file_elsewhere_is_a_redirect_that_tells_what_it_leads_to(
    settings: Settings, place: Place, run: ElsewhereRun
) -> None:
    body, digest = run.bodies[WEIGHTS], run.sha256(WEIGHTS)
    with portal(settings.model_copy(update=place.settings)) as client:
        for path in (run.address(WEIGHTS), resolve()):
            for method in ("GET", "HEAD"):
                answer = client.request(method, path)
                assert (answer.status_code, answer.content) == (302, b"")
                assert answer.headers["etag"] == answer.headers["x-linked-etag"] == f'"{digest}"'
                assert answer.headers["x-linked-size"] == str(len(body))
                assert answer.headers["cache-control"] == "no-store"
                assert "content-encoding" not in answer.headers
            if path == resolve():
                assert len(answer.headers["x-repo-commit"]) == 40
            got = httpx.get(answer.headers["location"], headers={"Range": "bytes=10-99"}, follow_redirects=True)
            assert (got.status_code, got.content) == (206, body[10:100])
            assert client.get(path, headers={"If-None-Match": f'"{digest}"'}).status_code == 304


def test_the_portal_can_hand_the_bytes_through(settings: Settings, place: Place, run: ElsewhereRun) -> None:
    body, digest = run.bodies["flat.bin"], run.sha256("flat.bin")
    with portal(settings.model_copy(update=place.settings | {"remote_files": "proxy"})) as client:
        for path in (run.address("flat.bin"), f"/datasets/{RUN}/resolve/main/{path_in_uri(run.uris['flat.bin'])}"):
            whole = client.get(path)
            assert (whole.status_code, whole.content) == (200, body)
            assert (whole.headers["etag"], whole.headers["accept-ranges"]) == (f'"{digest}"', "bytes")
            part = client.get(path, headers={"Range": "bytes=-10"})
            assert (part.status_code, part.content) == (206, body[-10:])
            assert part.headers["content-range"] == f"bytes {len(body) - 10}-{len(body) - 1}/{len(body)}"
            assert client.get(path, headers={"Range": f"bytes={len(body)}-"}).status_code == 416
            head = client.head(path)
            assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(body)), b"")
            stale = client.get(path, headers={"Range": "bytes=0-3", "If-Range": '"old"'})
            assert (stale.status_code, len(stale.content)) == (200, len(body))
        listed = client.get(f"/api/v1/runs/{RUN}/checkpoints/10").json()["files"]
        assert all(file["url"].startswith("/files/") for file in listed)


def test_what_is_no_longer_there_is_told_before_any_byte(settings: Settings, place: Place, run: ElsewhereRun) -> None:
    place.put("flat.bin", run.bodies["flat.bin"][:-1])
    asked = settings.model_copy(update=place.settings | {"remote_files": "proxy", "remote_attempts": 1})
    with portal(asked) as client:
        answer = client.get(run.address("flat.bin"))
    assert answer.status_code in (409, 422, 503)
    assert answer.json()["remedy"]


def test_pages_of_other_sites_may_ask(settings: Settings, place: Place, run: ElsewhereRun) -> None:
    asking = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range",
    }
    with portal(settings.model_copy(update=place.settings)) as client:
        for path in (run.address(WEIGHTS), resolve(), "/api/v1/runs", "/api/models"):
            allowed = client.options(path, headers=asking)
            assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (204, "*")
            assert "Range" in allowed.headers["access-control-allow-headers"]
            assert "GET" in allowed.headers["access-control-allow-methods"]
            answer = client.get(path, headers={"Origin": "https://example.org"})
            assert answer.headers.get_list("access-control-allow-origin") == ["*"]
            shown = answer.headers["access-control-expose-headers"]
            assert all(name in shown for name in ("ETag", "Digest", "Content-Range", "X-Linked-Size"))
            assert "access-control-allow-credentials" not in answer.headers
        # Pages are for their own visitors; and a question that is no preflight is none.
        assert client.options("/runs", headers=asking).status_code in (404, 405)
        assert "access-control-allow-origin" not in client.get(f"/runs/{RUN}").headers
        assert client.options("/api/v1/runs").status_code == 405


@pytest.mark.xdist_group("seaweed")
def test_addresses_are_signed_for_the_public_endpoint_and_made_anew(
    s3_server: SeaweedServer, engine: Engine, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    public = s3_server.endpoint.replace("127.0.0.1", "localhost")
    with ExitStack() as stack:
        place = stack.enter_context(s3_place(s3_server))
        run = elsewhere_run(engine, settings, tmp_path / "release", place)
        asked = settings.model_copy(update=place.settings | {"s3_public_endpoint": public, "presign_seconds": 1})
        client = stack.enter_context(portal(asked))
        listed = client.get(f"/api/v1/runs/{RUN}/checkpoints/10").json()["files"]
        assert {f["url"] for f in listed} == {run.address(WEIGHTS), run.address("step10/config.json")}
        first = client.get(run.address(WEIGHTS)).headers["location"]
        parts = urlsplit(first)
        assert f"{parts.scheme}://{parts.netloc}" == public
        assert f"/{BUCKET}/" in parts.path
        assert "response-content-disposition=attachment" in parts.query.lower()
        # Signed for a second: sooner or later it has expired, and the portal's own address leads on all the same.
        while (gone := httpx.get(first)).status_code == 200:
            pass
        assert gone.status_code == 403
        again = httpx.get(client.get(run.address(WEIGHTS)).headers["location"])
        assert hashlib.sha256(again.content).hexdigest() == run.sha256(WEIGHTS)
    # httpx, this test's own client, writes every address it asks.
    written = "".join(r.getMessage() for r in caplog.records if not r.name.startswith("http"))
    for secret in (SECRET_KEY, "X-Amz-Signature", f"{ACCESS_KEY}%2F", f"{ACCESS_KEY}/2"):
        assert secret not in written


@pytest.mark.xdist_group("seaweed")
def test_another_place_is_taken_where_one_is_lost(
    s3_server: SeaweedServer, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    about = {"sha256": digest, "size": 1, "role": "weights"}
    for k, path in enumerate(("s3://not-allowed/a.bin", "hf://lab/model@step-10/a.bin")):
        many_checkpoints(
            engine, settings, f"lab/r{k}", 2, checkpoints=[{"step": 10, "files": [{"path": path} | about]}]
        )
    asked = settings.model_copy(update={"s3_buckets": "mine", "s3_endpoint": s3_server.endpoint})
    with portal(asked) as client:
        answer = client.get(f"/files/{digest}/a.bin")
    assert answer.headers["location"] == "https://huggingface.co/lab/model/resolve/step-10/a.bin"
