"""The search box: a page, a part of it while somebody types, a jump, and JSON."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

TYPING = {"HX-Request": "true", "HX-Target": "hits"}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("q=small", ['href="/runs/lab/small"', "A small run", "in all runs"]),
        ("q=ckpt_002", ['href="/runs/lab/small/checkpoints/10"', "state after step 10"]),
        ("q=7&run=lab/small", ['href="/runs/lab/small?step=7"', "448 tokens read", "Search everywhere"]),
        ("q=chunk_1", ['href="/runs/lab/small/chunks/chunk_1"', "40 rows"]),
        ("q=nan", ['href="/runs/lab/small?step=7"', "once, first at step 7"]),
        ("q=note&run=lab/small", ['href="/runs/lab/small/events"', "step not recorded"]),
        ("q=lr&run=lab/small", ['href="/runs/lab/small/configs"', "0.001", 'href="/runs/lab/small?series=lr"']),
        ("q=zzzz", ["Nothing is called", "beginning of their name"]),
        ("q=%22to+be%22", ["not built yet"]),
        ("q=", ["300B tokens"]),
        ("q=%3Cscript%3E", ["&lt;script&gt;"]),
        ("q=" + "x" * 10_000, ["10,000 characters"]),
    ],
)
def test_the_page_shows_what_was_found(client: TestClient, query: str, says: list[str]) -> None:
    answer = client.get(f"/search?{query}")
    assert answer.status_code == 200
    for said in says:
        assert said in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize(
    ("query", "address"),
    [
        ("q=lab/small", "/runs/lab/small"),
        ("q=small", "/runs/lab/small"),
        ("q=lab/small+12", "/runs/lab/small?step=12"),
        ("q=640+tokens&run=lab/small", "/runs/lab/small?step=10"),
        ("q=ckpt_002", "/runs/lab/small/checkpoints/10"),
        ("q=chunk_0&run=lab/small", "/runs/lab/small/chunks/chunk_0"),
    ],
)
def test_enter_goes_straight_to_what_is_named_exactly(client: TestClient, query: str, address: str) -> None:
    answer = client.get(f"/search?go=1&{query}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, address)
    assert client.get(f"/search?{query}", follow_redirects=False).status_code == 200
    assert client.get(address).status_code == 200


def test_enter_stays_where_several_or_none_are_named(client: TestClient) -> None:
    for query in ("ckpt_", "nan", "lr", "zzz"):
        assert client.get(f"/search?go=1&q={query}", follow_redirects=False).status_code == 200


def test_typing_brings_the_answers_alone(client: TestClient) -> None:
    part = client.get("/search?go=1&q=ckpt_002", headers=TYPING)
    assert part.status_code == 200
    assert "<html" not in part.text
    assert "ckpt_002" in part.text
    unknown = client.get("/search?q=x&run=lab/smal", headers=TYPING)
    assert unknown.status_code == 404
    assert "<html" not in unknown.text


def test_the_json_twin_holds_the_same(client: TestClient) -> None:
    answer = client.get("/api/v1/search?q=ckpt_002&run=lab/small")
    (group,) = answer.json()["groups"]
    assert (group["kind"], group["found"], group["complete"]) == ("checkpoint", 1, True)
    assert group["hits"][0]["step"] == 10
    again = client.get("/api/v1/search?q=ckpt_002&run=lab/small", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert client.get("/api/v1/search?q=x&run=lab/smal").json()["nearest"] == ["lab/small"]
    assert client.get("/api/v1/search?q=a%00b").status_code == 400
    assert client.get("/api/v1/search").json()["groups"] == []


def test_pages_of_a_run_search_in_it(client: TestClient) -> None:
    assert 'name="run" value="lab/small" checked' in client.get("/runs/lab/small/checkpoints/5").text
    assert 'name="run" value="lab/small" checked' in client.get("/runs/lab/small/steps/99").text
    assert 'name="run"' not in client.get("/api/docs").text
    assert 'name="run" value="lab/small" checked' in client.get("/search?q=x&run=lab/small").text
