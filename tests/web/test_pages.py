"""Pages as documents: what they say, what a block of them says, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, event
from starlette.testclient import TestClient

from portal.settings import Settings
from tests.builders import SmallRun, many_checkpoints, record

RUN = "/runs/lab/small"


def page(client: TestClient, path: str, status: int = 200, **headers: str) -> str:
    answer = client.get(path, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        # How often the catalog's stamp is read depends on the clock, not on the page.
        if "count(*), coalesce" not in statement.lower():
            statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/", ["lab/small", "A small run", "7/7"]),
        ("/?q=SMALL", ["lab/small"]),
        ("/?q=zzz", ["No run matches"]),
        (RUN, ["Timeline", "5/5 checkpoints", "data-figure", "Choose a step"]),
        (f"{RUN}?step=7", ["At step", "NaN", "ckpt_001", "Read the tokens", "The loss was not a number."]),
        (f"{RUN}?step=99", ["role=\"alert\"", "steps"]),
        (f"{RUN}?series=nope", ["There is no series", "nope"]),
        (f"{RUN}/checkpoints", ["ckpt_004", "float32", "released"]),
        (f"{RUN}/checkpoints/ckpt_002", ["portal pair lab/small 10 --data next", "model.safetensors", "curl -fL -C -", "verified"]),
        (f"{RUN}/chunks", ["chunk_0", "1–10"]),
        (f"{RUN}/chunks/chunk_1", ["11 – 20", "Read in steps"]),
        (f"{RUN}/metrics", ["train/loss", "nats", "1 NaN", "csv"]),
        (f"{RUN}/events", ["nan loss", "Nobody wrote down when."]),
        (f"{RUN}/findings", ["Findings"]),
        (f"{RUN}/configs", ["0.001", "https://example.org/code"]),
        (f"{RUN}/lineage", ["trained from scratch"]),
        (f"{RUN}/evaluations", ["no evaluation"]),
        (f"{RUN}/steps/10", ["checkpoint at this step", "Show this step on the timeline"]),
        (f"{RUN}/steps/10/pair", [">11–15<", "what it reads next", "--data next --to"]),
        (f"{RUN}/steps/10/pair?data=previous", [">6–10<", "had just read", "--data previous --to"]),
        (f"{RUN}/steps/3/pair?data=batch", ["the batch of step", "--data batch"]),
        (f"{RUN}/steps/3/tokens?row=2", ["Row <span class=\"num\">2</span>", "chunk_0 row", "npy"]),
        ("/api/docs", ["/api/v1/runs/{org}/{name}/steps/{step}/pair", "id=\"errors-step-not-recorded\""]),
    ],
)  # fmt: skip
def test_pages_say_what_lies_there(client: TestClient, path: str, says: list[str]) -> None:
    text = page(client, path)
    for said in says:
        assert said in text
    assert text.lower().startswith("<!doctype html>")


def test_an_empty_portal_says_what_to_do(app: FastAPI) -> None:
    text = page(TestClient(app), "/")
    assert "portal publish FOLDER" in text
    assert "portal demo" in text


@pytest.mark.parametrize(
    ("path", "status", "link"),
    [
        (f"{RUN}/steps/21", 404, f'href="{RUN}/steps/20"'),
        (f"{RUN}/steps/21/tokens", 404, f'href="{RUN}/steps/20/tokens"'),
        (f"{RUN}/checkpoints/7", 404, f'href="{RUN}/checkpoints/5"'),
        (f"{RUN}/checkpoints/ckpt_01", 404, f'href="{RUN}/checkpoints/ckpt_001"'),
        ("/runs/lab/smal", 404, 'href="/runs/lab/small"'),
        (f"{RUN}/steps/3/tokens?row=4", 404, "4 rows, counted from 0"),
        (f"{RUN}/steps/x", 400, "not a whole number"),
        (f"{RUN}?first=x", 400, "whole number"),
        ("/nowhere", 404, "There is nothing at /nowhere"),
    ],
)
def test_errors_are_pages_that_help(client: TestClient, path: str, status: int, link: str) -> None:
    text = page(client, path, status)
    assert link in text
    assert 'role="alert"' in text


def test_htmx_gets_the_block_its_target_names(client: TestClient) -> None:
    whole = page(client, f"{RUN}/steps/7")
    drawer = page(client, f"{RUN}/steps/7", **{"HX-Request": "true", "HX-Target": "drawer"})
    assert "<html" not in drawer
    assert "At step" in drawer
    assert drawer.strip() in whole
    row = page(client, f"{RUN}/steps/7/tokens?row=3", **{"HX-Request": "true", "HX-Target": "row"})
    assert "<html" not in row
    assert 'Row <span class="num">3</span>' in row
    other = page(client, f"{RUN}/steps/7", **{"HX-Request": "true", "HX-Target": "nothing-of-ours"})
    assert other == whole
    back = {"HX-Request": "true", "HX-Target": "drawer", "HX-History-Restore-Request": "true"}
    assert page(client, f"{RUN}/steps/7", **back) == whole
    assert "HX-Request" in client.get(f"{RUN}/steps/7/tokens").headers["vary"]


def test_an_error_for_htmx_is_a_notice(client: TestClient) -> None:
    notice = page(client, f"{RUN}/steps/21", 404, **{"HX-Request": "true", "HX-Target": "drawer"})
    assert "<html" not in notice
    assert 'role="alert"' in notice


def test_lanes_and_figure_are_what_the_page_preloads(client: TestClient, small: SmallRun) -> None:
    text = page(client, f"{RUN}?first=5&last=9")
    figure = f"{RUN}/figure?series=train%2Floss&series=lr"
    drawn_first = f"{figure}&first=5&last=9&buckets=1000".replace("&", "&amp;")
    assert f'data-figure="{drawn_first}"' in text
    assert f'href="{drawn_first}"' in text
    lanes = client.get(f"{RUN}/lanes").json()
    assert lanes["stages"] == [["warmup", 1, 10], ["main", 11, 20]]
    assert [row[:4] for row in lanes["data"]] == [["chunk_0", 1, 10, 0], ["chunk_1", 11, 20, 0]]
    assert lanes["checkpoints"][1] == [5, "ckpt_001", 4]
    assert [e[:3] for e in lanes["events"]] == [[7, 7, "nan_loss"], [12, 14, "spike"]]
    drawn = client.get(f"{figure}&first=5&last=9&buckets=1000").json()
    assert [p["name"] for p in drawn["panels"]] == ["train/loss", "lr"]
    assert drawn["panels"][0]["curves"][0]["points"] == 5
    assert client.get(f"{RUN}/figure?series=nope").status_code == 404


def test_synthetic_runs_are_marked(app: FastAPI, engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/fake", "synthetic": True})
    client = TestClient(app)
    assert "synthetic" in page(client, "/")
    assert "synthetic" in page(client, "/runs/lab/fake")


def test_a_run_of_almost_nothing_has_its_pages(app: FastAPI, engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/bare"})
    client = TestClient(app)
    for part in (
        "",
        "/checkpoints",
        "/chunks",
        "/metrics",
        "/events",
        "/findings",
        "/configs",
        "/lineage",
        "/evaluations",
        "/steps/5",
    ):
        page(client, f"/runs/lab/bare{part}")
    assert "no metric series" in page(client, "/runs/lab/bare")


def test_pages_cost_the_same_whatever_their_length(app: FastAPI, engine: Engine, settings: Settings) -> None:
    client = TestClient(app)
    many_checkpoints(engine, settings, "lab/few", 10)
    many_checkpoints(engine, settings, "lab/many", 300)
    inner = app.state.desk.engine
    for part in ("", "/checkpoints", "/chunks"):
        counts = []
        for run in ("few", "many"):
            page(client, f"/runs/lab/{run}/lineage")
            with counted(inner) as statements:
                page(client, f"/runs/lab/{run}{part}")
            counts.append(len(statements))
        assert counts[0] == counts[1], part


def test_the_address_in_commands_is_the_one_that_was_asked(client: TestClient) -> None:
    first = client.get(f"{RUN}/checkpoints/5", headers={"Host": "one.example"}).text
    second = client.get(f"{RUN}/checkpoints/5", headers={"Host": "two.example"}).text
    assert "http://one.example/api" in first
    assert "one.example" not in second


def test_json_twins_are_linked(client: TestClient) -> None:
    text = page(client, f"{RUN}/steps/3/tokens?row=2")
    assert 'href="/api/v1/runs/lab/small/steps/3/tokens?first=0&amp;count=4"' in text
    assert json.loads(client.get("/api/v1/runs/lab/small/steps/3/tokens?first=0&count=4").text)["rows_total"] == 4
