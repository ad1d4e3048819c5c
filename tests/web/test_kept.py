"""Kept answers: the same bytes as fresh ones, never stale, bounded."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.answers import FoundFinding
from portal.catalog.record import record_findings
from portal.database import create_database_engine, open_session
from portal.settings import Settings
from portal.web import kept
from portal.web.deps import Desk
from portal.web.kept import KEPT, AnswerShelf, KeptAnswer, matches
from portal.web.ready import Readiness
from tests.builders import SmallRun, many_checkpoints, record

RUN = "/api/v1/runs/lab/small"


@pytest.fixture(autouse=True)
def _no_memory_of_the_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests change the catalog faster than a server's stamp is asked for again."""
    monkeypatch.setattr(kept, "SERVER_MEMORY_SECONDS", -1.0)


def test_a_kept_answer_is_the_answer(app: FastAPI, client: TestClient) -> None:
    plain = {"Accept-Encoding": "identity"}
    first, second = client.get(f"{RUN}/timeline", headers=plain), client.get(f"{RUN}/timeline", headers=plain)
    assert app.state.answers.hits == 1
    assert first.content == second.content
    own = {"x-request-id", "ratelimit"}
    assert {n: v for n, v in first.headers.items() if n not in own} == {
        n: v for n, v in second.headers.items() if n not in own
    }


def test_the_second_reader_gets_it_compressed(client: TestClient) -> None:
    client.get(f"{RUN}/timeline")
    answer = client.get(f"{RUN}/timeline", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["etag"].endswith('-gzip"')
    assert "Accept-Encoding" in answer.headers["vary"]
    plain = client.get(f"{RUN}/timeline", headers={"Accept-Encoding": "identity"})
    assert plain.content == answer.content
    again = client.get(f"{RUN}/timeline", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_a_zoom_is_kept_once_somebody_asked_for_it_twice(app: FastAPI, client: TestClient) -> None:
    path = f"{RUN}/metrics/data?series=train/loss&first=2"
    answers = []
    for kept_answers in (0, 1, 1):
        answers.append(client.get(path, headers={"Accept-Encoding": "identity"}))
        assert len(app.state.answers) == kept_answers
    assert app.state.answers.hits == 1
    own = (b"x-request-id", b"ratelimit", b"ratelimit-policy")
    assert len({(a.content, *(pair for pair in a.headers.raw if pair[0] not in own)) for a in answers}) == 1


def test_what_was_met_longest_ago_is_forgotten() -> None:
    shelf = AnswerShelf(1000)
    assert [shelf.met_before((b"a",)), shelf.met_before((b"a",))] == [False, True]
    for k in range(kept.MAX_MET):
        shelf.met_before((b"%d" % k,))
    assert not shelf.met_before((b"a",))


def test_publishing_makes_answers_stale(client: TestClient, engine: Engine, settings: Settings) -> None:
    assert client.get("/api/v1/runs").json()["total"] == 1
    many_checkpoints(engine, settings, "lab/other", 2)
    assert client.get("/api/v1/runs").json()["total"] == 2
    assert client.get("/api/v1/runs/lab/other").json()["summary"]["checkpoints"] == 2
    many_checkpoints(engine, settings, "lab/other", 3)
    assert client.get("/api/v1/runs/lab/other").json()["summary"]["checkpoints"] == 3


def test_new_findings_make_answers_stale(client: TestClient, engine: Engine, small: SmallRun) -> None:
    assert client.get(f"{RUN}/findings").json()["total"] == 0
    with open_session(engine) as session:
        record_findings(session, small.release_id, [FoundFinding("gap", "warning", "A step is missing.", 3)])
        session.commit()
    assert client.get(f"{RUN}/findings").json()["total"] == 1
    assert client.get(RUN).json()["summary"]["findings"]["warning"] == 1
    assert client.get(f"{RUN}/steps/3").json()["findings"][0]["code"] == "gap"


def test_errors_are_not_kept(app: FastAPI, client: TestClient, engine: Engine, settings: Settings) -> None:
    assert client.get("/api/v1/runs/lab/new").status_code == 404
    record(engine, settings, {"run": "lab/new"})
    assert client.get("/api/v1/runs/lab/new").status_code == 200


def test_pages_vary_by_what_asked_for_them(client: TestClient) -> None:
    whole = client.get("/runs/lab/small")
    part = client.get("/runs/lab/small", headers={"HX-Request": "true", "HX-Target": "nothing-like-it"})
    assert (whole.status_code, part.status_code) == (200, 200)
    assert "HX-Request" in whole.headers["vary"]
    assert client.get("/runs/lab/small").content == whole.content


@pytest.mark.parametrize(
    ("path", "is_kept"),
    [
        ("/api/v1/runs", True),
        ("/api/v1/runs/a/b", True),
        ("/runs/a/b", True),
        ("/api/v1/runs/a/b/timeline", True),
        ("/api/v1/runs/a/b/metrics/data", True),
        ("/api/v1/runs/a/b/steps/3/pair", True),
        ("/api/v1/runs/a/b/steps/3/tokens", False),
        ("/api/v1/runs/a/b/steps/3", False),
        ("/runs/a/b/steps/3/tokens", False),
        ("/api/v1/runs/a/b/metrics/train/loss.csv", False),
        ("/files/x/y", False),
        ("/healthz", False),
    ],
)
def test_what_is_kept(path: str, is_kept: bool) -> None:
    assert bool(KEPT.match(path.encode())) == is_kept


def _answer(body: bytes, **about: Any) -> KeptAnswer:
    return KeptAnswer((1, 1, 1), b'"x"', [], body, len(body), **about)


def test_the_shelf_stays_within_its_bytes() -> None:
    shelf = AnswerShelf(1000)
    for k in range(50):
        shelf.keep((b"%d" % k,), _answer(b"x" * 100))
        assert shelf.bytes <= 1000
    assert len(shelf) == 10
    assert shelf.find((b"49",), (1, 1, 1)) is not None
    assert shelf.find((b"1",), (1, 1, 1)) is None
    assert shelf.find((b"49",), (1, 1, 2)) is None
    shelf.keep((b"huge",), _answer(b"x" * 5000))
    assert (len(shelf), shelf.bytes) == (0, 0)


def test_an_answer_too_large_to_keep_is_sent_as_it_is(
    app: FastAPI, client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(kept, "MAX_ANSWER", 10)
    assert client.get(f"{RUN}/timeline").json()["run"] == "lab/small"
    assert len(app.state.answers) == 0


def test_a_database_that_does_not_answer_is_said_to(
    app: FastAPI, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = create_database_engine(settings.model_copy(update={"database_url": "postgresql+psycopg://x@127.0.0.1:1/x"}))
    app.state.desk = Desk(settings, gone)
    app.state.watched.readiness = Readiness(settings, gone)
    guarded = kept.KeepAnswers(app, gone, AnswerShelf(1000))
    for path, client in (("/readyz", TestClient(app)), ("/api/v1/runs", TestClient(guarded))):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "127.0.0.1" not in answer.text
    gone.dispose()


def test_compressed_bytes_are_the_same_answer() -> None:
    answer = _answer(b"abc" * 1000)
    headers, body = answer.encoded(True)
    assert gzip.decompress(body) == answer.body
    assert (b"content-encoding", b"gzip") in headers
    assert answer.encoded(True)[1] is body


@pytest.mark.parametrize(
    ("wanted", "same"),
    [
        (b'"x"', True),
        (b'W/"x"', True),
        (b'"x-gzip"', True),
        (b'"a", "x"', True),
        (b"*", True),
        (b'"y"', False),
        (b"x", False),
    ],
)
def test_if_none_match(wanted: bytes, same: bool) -> None:
    assert matches(wanted, b'"x"') is same
