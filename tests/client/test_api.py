"""Every question reaches a real portal, and its refusals arrive as its own errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from portal.client import Portal
from portal.errors import (
    BadRequest,
    CheckpointNotFound,
    PortalError,
    RunNotFound,
    StepNotRecorded,
    Unavailable,
    UsageError,
)
from tests.builders import SmallRun

RUN = "lab/small"


def test_answers(portal: Portal, small: SmallRun) -> None:
    assert [r["run"] for r in portal.runs()] == [RUN]
    assert portal.run(RUN)["summary"]["last_step"] == 20
    assert len(portal.timeline(RUN)["checkpoints"]) == 5
    assert [c["step"] for c in portal.checkpoints(RUN)] == [0, 5, 10, 15, 20]
    assert portal.checkpoint(RUN, "ckpt_001")["step"] == portal.checkpoint(RUN, 5)["step"]
    assert [c["name"] for c in portal.chunks(RUN)] == ["chunk_0", "chunk_1"]
    assert portal.chunk(RUN, "chunk_1")["chunk"]["rows"] == 40
    assert portal.step(RUN, 7)["metrics"][0]["special"] == "nan"
    assert portal.pair(RUN, 5, "next", 2)["data"]["last_step"] == 7
    assert portal.tokens(RUN, 3, first=1, count=2)["rows"][0]["token_ids"] == small.rows[9].tolist()
    assert portal.tokens(RUN, 3, text=False)["rows"][0]["pieces"] is None
    assert {s["name"] for s in portal.series(RUN)} == {"train/loss", "lr"}
    assert portal.metrics(RUN, ["train/loss"], first=1, last=5)["series"][0]["points"] == 5
    assert next(portal.configs(RUN))["values"] == {"lr": 0.001}
    assert len(list(portal.events(RUN))) == 3
    assert list(portal.findings(RUN)) == []
    assert list(portal.evaluations(RUN)) == []
    assert portal.lineage(RUN)["run"] == RUN
    with portal.open_batch(RUN, 3, "npy") as answer:
        assert answer.read().startswith(b"\x93NUMPY")


@pytest.mark.parametrize(
    ("ask", "error", "extra"),
    [
        (lambda p: p.run("lab/smal"), RunNotFound, "nearest"),
        (lambda p: p.step(RUN, 21), StepNotRecorded, "nearest"),
        (lambda p: p.step(RUN, 10**30), StepNotRecorded, "nearest"),
        (lambda p: p.step(RUN, "abc"), BadRequest, "parameter"),
        (lambda p: p.checkpoint(RUN, 7), CheckpointNotFound, "nearest"),
        (lambda p: p.pair(RUN, 5, "sideways"), BadRequest, "parameter"),
    ],
)
def test_refusals_arrive_as_they_were_raised(
    portal: Portal, ask: Callable[[Portal], Any], error: type[PortalError], extra: str
) -> None:
    with pytest.raises(error) as caught:
        ask(portal)
    assert type(caught.value) is error
    assert caught.value.remedy
    assert extra in caught.value.extra or error is RunNotFound


@pytest.mark.parametrize("run", ["", "lab", "/", "a/", "/b", "a/b/c", "../x", "./x", "a/.."])
def test_names_that_are_no_run(portal: Portal, run: str) -> None:
    with pytest.raises(UsageError):
        portal.run(run)


@pytest.mark.parametrize("step", ["", ".", "..", "5/pair", "/"])
def test_a_step_cannot_change_the_question(portal: Portal, step: str) -> None:
    with pytest.raises(UsageError):
        portal.step(RUN, step)


@pytest.mark.parametrize("step", ["5?x=1", "5#a", "%2e%2e", "\ud800", "\x00"])
def test_odd_steps_are_one_part_of_the_address(portal: Portal, step: str) -> None:
    with pytest.raises(PortalError) as caught:
        portal.step(RUN, step)
    assert caught.value.status in (400, 404)


def test_an_address_needs_a_scheme() -> None:
    with pytest.raises(UsageError, match="no address"):
        Portal("localhost:8360")


def test_a_portal_that_is_not_there() -> None:
    with Portal("http://127.0.0.1:1") as portal, pytest.raises(Unavailable, match="does not answer"):
        portal.run(RUN)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[1]),
        httpx.Response(500, text="<html>"),
        httpx.Response(404, json=["x"]),
        httpx.Response(302, headers={"location": "/login"}),
    ],
)
def test_what_is_no_portal_is_said_so(answer: httpx.Response) -> None:
    with made(lambda _: answer) as portal, pytest.raises(Unavailable, match="answer"):
        portal.run(RUN)


def test_a_code_of_a_later_version_is_still_a_refusal() -> None:
    problem = {"detail": "No.", "code": "too-late", "remedy": "Come earlier."}
    with made(lambda _: httpx.Response(418, json=problem)) as portal, pytest.raises(PortalError, match=r"No\. Come"):
        portal.run(RUN)


def test_a_busy_portal_is_asked_again_but_not_for_ever() -> None:
    answers = iter([httpx.Response(429), httpx.Response(502), httpx.Response(200, json={"fine": True})])
    with made(lambda _: next(answers)) as portal:
        assert portal.run(RUN) == {"fine": True}
    asked: list[int] = []
    with made(lambda _: (asked.append(1), httpx.Response(504))[1]) as portal, pytest.raises(Unavailable):
        portal.run(RUN)
    assert len(asked) == 4


def test_lists_are_read_to_their_end() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        at = int(request.url.params.get("cursor", 0))
        return httpx.Response(200, json={"items": [{"n": at}, {"n": at + 1}], "next": str(at + 2) if at < 4 else None})

    with made(answer) as portal:
        assert [run["n"] for run in portal.runs()] == [0, 1, 2, 3, 4, 5]


def test_the_token_goes_with_every_question() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json={})

    with Portal("http://portal.test/", token="secret", transport=httpx.MockTransport(answer)) as portal:
        portal.run(RUN)
        with portal.open_url("/files/x"):
            pass
    assert seen == ["Bearer secret"] * 2


@pytest.mark.parametrize(
    "look_alike", ["http://portal.test.evil/x", "http://portal.test@evil/x", "http://portal.testx"]
)
def test_an_address_that_only_begins_alike_is_elsewhere(look_alike: str) -> None:
    with made(lambda _: httpx.Response(200)) as portal:
        assert portal._client("http://portal.test/files/x") is portal._http
        assert portal._client(look_alike) is not portal._http


def made(answer: Callable[[httpx.Request], httpx.Response]) -> Portal:
    return Portal("http://portal.test", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "without the field 'items'"),
        ({"items": [], "next": "a"}, "the same page"),
        ({"items": 5}, "in another form"),
        ({"items": [5]}, "in another form"),
        ([], "did not answer as a portal"),
        ({"items": [{}], "next": None}, "without the field 'title'"),
    ],
)
def test_an_answer_of_something_else_is_said(body: Any, word: str) -> None:
    with (
        made(lambda _request: httpx.Response(200, json=body)) as portal,
        pytest.raises(Unavailable, match=word) as refused,
    ):
        [run["title"] for run in portal.runs()]
    assert "http://portal.test/api/v1/runs" in str(refused.value)
    assert "portal --version" in str(refused.value)


def test_json_that_is_too_deep() -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    with made(lambda _request: httpx.Response(200, content=deep)) as portal, pytest.raises(Unavailable):
        portal.run("lab/run")
