"""Figures, their CSV and their table: one set of numbers, by whatever the x axis counts, over whatever other run."""

from __future__ import annotations

import base64
import csv
import io
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.settings import Settings
from tests.builders import record, series_data

FIGURE = "/runs/lab/parent/figure?series=loss&series=lr"
STAGES = [
    {"name": "small", "first_step": 1, "last_step": 100, "tokens_per_step": 10},
    {"name": "large", "first_step": 101, "last_step": 200, "tokens_per_step": 30},
]


@pytest.fixture
def client(app: FastAPI, engine: Engine, settings: Settings) -> TestClient:
    """A parent of 200 steps in two batch sizes, and a child that reads 20 tokens a step for 300 steps."""
    steps = np.arange(1, 201)
    parent: dict[str, Any] = {
        "run": "lab/parent",
        "training": {"last_step": 200, "row_length": 4},
        "stages": STAGES,
        "checkpoints": [{"step": step, "location": "hf://a/b@c"} for step in (50, 100, 200)],
    }
    loss = 1.0 / steps
    loss[149] = np.nan
    record(engine, settings, parent, None, [series_data("loss", steps, loss), series_data("lr", steps, steps * 1.0)])
    child = {
        "run": "lab/child",
        "kind": "finetune",
        "parent": {"run": "lab/parent", "step": 200},
        "training": {"last_step": 300, "tokens_per_step": 20, "row_length": 4},
    }
    record(engine, settings, child, None, [series_data("loss", range(1, 301), np.arange(300.0))])
    record(engine, settings, {"run": "lab/other"}, None, [series_data("loss", [1], [1.0])])
    return TestClient(app)


def arrays(packed: dict[str, str]) -> list[float]:
    found: list[float] = np.frombuffer(base64.b64decode(packed["bdata"]), "<" + packed["dtype"]).tolist()
    return found


def line(figure: dict[str, Any], panel: int = 0, curve: int = 0) -> list[float]:
    place = {"role": "line", "panel": panel, "curve": curve}
    return arrays(next(t for t in figure["data"] if t["meta"] == place)["x"])


def test_tokens_grow_by_stage(client: TestClient) -> None:
    figure = client.get(f"{FIGURE}&x=tokens&first=99&last=102").json()
    assert line(figure) == [990, 1000, 1030, 1060]
    axis = figure["axes"]["lab/parent"]
    assert (arrays(axis["steps"]), arrays(axis["at"])) == ([0, 100, 200], [0, 1000, 4000])
    assert figure["layout"]["xaxis"]["range"][0] == pytest.approx(990, abs=1)


def test_checkpoints_are_counted_with_the_way_between_them(client: TestClient) -> None:
    assert line(client.get(f"{FIGURE}&x=checkpoint&first=50&last=150").json())[::50] == [0, 1, 1.5]


def test_what_a_run_cannot_count_by_is_refused_with_the_reason(client: TestClient) -> None:
    answer = client.get(f"{FIGURE}&x=chunk")
    assert answer.status_code == 400
    assert "not tied to steps" in answer.text
    page = client.get("/runs/lab/parent?x=chunk").text
    assert "not tied to steps" in page


def test_another_run_is_aligned_by_what_x_counts(client: TestClient) -> None:
    by_steps = client.get(f"{FIGURE}&over=lab/child").json()
    assert [len(p["curves"]) for p in by_steps["panels"]] == [2, 1]
    assert by_steps["end"] == 300
    assert line(by_steps, curve=1) == list(range(1, 301))
    by_tokens = client.get(f"{FIGURE}&over=lab/child&x=tokens&first=1&last=100").json()
    assert line(by_tokens, curve=1) == [20 * step for step in range(1, 51)]
    assert by_tokens["end"] == 267
    assert client.get(f"{FIGURE}&over=lab/parent").status_code == 400
    assert client.get(f"{FIGURE}&over=lab/nobody").status_code == 404


def test_runs_with_the_same_series_are_offered_kin_first(client: TestClient) -> None:
    page = client.get("/runs/lab/parent").text
    assert page.index('value="lab/child"') < page.index('value="lab/other"')
    assert "has no series of the same name" in client.get("/runs/lab/parent?over=lab/nobody").text


def test_csv_and_table_hold_the_numbers_of_the_figure(client: TestClient) -> None:
    window = "&first=1&last=160&buckets=20&x=tokens"
    rows = list(csv.DictReader(io.StringIO(client.get(f"{FIGURE.replace('?', '.csv?')}{window}").text)))
    curve = client.get(FIGURE + window).json()["panels"][0]["curves"][0]
    mine = [row for row in rows if row["series"] == "loss"]
    assert [float(row["mean"]) for row in mine] == pytest.approx(arrays(curve["mean"]))
    assert [int(row["max_step"]) for row in mine] == arrays(curve["max_step"])
    assert sum(int(row["points"]) for row in mine) == 160
    assert sum(int(row["nan"]) for row in mine) == 1
    table = client.get(f"/runs/lab/parent?series=loss&table=loss{window}").text
    for row in mine:
        assert f'<td class="num">{row["mean"]}</td>' in table


def test_chunks_are_coloured_by_their_mix(client: TestClient, engine: Engine, settings: Settings) -> None:
    chunks = [
        {"name": name, "files": [{"path": f"{name}.jsonl"}], "format": "jsonl", "rows": 50, "sources": sources}
        for name, sources in (("a", {"web": 0.6, "code": 0.4}), ("b", {"web": 1.0}))
    ]
    order = [{"first_step": 1, "last_step": 100, "chunks": ["a", "b"], "kind": "sequential"}]
    training = {"last_step": 100, "rows_per_step": 1, "row_length": 4}
    record(engine, settings, {"run": "lab/mix", "training": training, "data": {"chunks": chunks, "order": order}})
    lanes = client.get("/runs/lab/mix/lanes").json()
    assert lanes["sources"] == ["web", "code"]
    assert [row[4] for row in lanes["data"]] == [0, 1]
    assert lanes["mixes"] == [[[0, 0.6], [1, 0.4]], [[0, 1.0]]]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/runs/lab/parent/figure?series=none", 404, "series-not-found"),
        ("/runs/lab/parent/figure", 400, "bad-request"),
        ("/runs/lab/none/figure?series=loss", 404, "run-not-found"),
        ("/runs/lab/none/lanes", 404, "run-not-found"),
        ("/compare/figure?run=lab/parent&run=lab/none", 404, "run-not-found"),
    ],
)
def test_scripts_are_answered_in_their_own_form(client: TestClient, path: str, status: int, code: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["code"] == code
    assert answer.json()["detail"]
