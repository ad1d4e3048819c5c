"""The comparison: its page with every number of runs, its figure, and JSON."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.settings import Settings
from tests.builders import SmallRun, record, series_data
from tests.web.test_pages import counted

PAIR = "run=lab/small&run=lab/other"


@pytest.fixture
def pair(client: TestClient, small: SmallRun, engine: Engine, settings: Settings) -> TestClient:
    training = {"last_step": 40, "tokens_per_step": 100, "row_length": 50, "rows_per_step": 2}
    series = [series_data("train/loss", range(1, 41), np.linspace(5, 1, 40))]
    record(engine, settings, {"run": "lab/other", "training": training}, None, series)
    record(engine, settings, {"run": "lab/bare"})
    return client


def unpacked(values: Any) -> Any:
    kinds = {"i4": "<i4", "f4": "<f4", "f8": "<f8"}
    return np.frombuffer(base64.b64decode(values["bdata"]), kinds[values["dtype"]]) if "bdata" in values else values


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", ["Nothing is chosen yet", 'value="lab/other"']),
        ("run=lab/small", ["One more", "lab/small@step"]),
        (PAIR, ["train/loss", "settings differ", "1.28 k", 'data-figure="/compare/figure?run=lab/small']),
        (f"{PAIR}&run=lab/smal", ["There is no run", "Did you mean <a", "Model and data"]),
        ("run=lab/small&run=lab/small@99", ["lab/small has steps 0", "One more"]),
        ("run=lab/small@5&run=lab/small@ckpt_002", ["Checkpoint files", "model.safetensors", "different", "at step 10"]),
        ("run=lab/bare&run=lab/small&x=tokens", ["is not drawn by tokens"]),
        ("run=lab/bare&run=lab/small&series=nope", ["None of them has a series nope", "no curve to lay side by side"]),
        ("run=lab/small&run=lab/small@5&all=1", ["Only those that differ", "<code>lr</code>"]),
        ("run=lab/small&run=lab/small@5", ["Every setting is the same", "0 of 1 settings differ"]),
        ("&".join(f"run=lab/small@{k}" for k in range(1, 11)), ["At most 8", "lab/small@9, lab/small@10"]),
        (f"{PAIR}&x=fraction&y=log", ["counts as 100", "y: log"]),
    ],
)  # fmt: skip
def test_the_page_with_any_number_of_runs(pair: TestClient, query: str, says: list[str]) -> None:
    answer = pair.get(f"/compare?{query}")
    assert answer.status_code == 200
    for said in says:
        assert said in answer.text


def test_json_is_the_comparison_itself(pair: TestClient) -> None:
    answer = pair.get(f"/api/v1/compare?{PAIR}").json()
    assert [s["run"] for s in answer["subjects"]] == ["lab/small", "lab/other"]
    assert answer["panels"][0]["series"] == ["train/loss", "train/loss"]
    assert answer["shared"] == ["train/loss"]
    assert pair.get("/api/v1/compare?run=lab/small").status_code == 400
    assert pair.get("/api/v1/compare").status_code == 400
    unknown = pair.get("/api/v1/compare?run=lab/small&run=lab/smal")
    assert (unknown.status_code, unknown.json()["nearest"][0]) == (404, "lab/small")


@pytest.mark.parametrize(("x", "ends"), [("step", [20, 40]), ("tokens", [1280, 4000]), ("fraction", [1, 1])])
def test_curves_are_aligned_by_what_x_counts(pair: TestClient, x: str, ends: list[float]) -> None:
    figure = pair.get(f"/compare/figure?{PAIR}&series=train/loss&x={x}").json()
    lines = [trace for trace in figure["data"] if trace["meta"]["role"] == "line"]
    assert [unpacked(line["x"])[-1] for line in lines] == pytest.approx(ends)
    assert [curve["run"] for curve in figure["panels"][0]["curves"]] == ["lab/small", "lab/other"]
    assert figure["panels"][0]["curves"][0]["nan"] == 1
    assert len({line["line"]["color"] for line in lines}) == 2


def test_a_window_is_asked_again_in_its_own_units(pair: TestClient) -> None:
    figure = pair.get(f"/compare/figure?{PAIR}&series=train/loss&x=fraction&low=0.5&high=0.75").json()
    lines = [trace for trace in figure["data"] if trace["meta"]["role"] == "line"]
    assert [(unpacked(line["x"]).min(), unpacked(line["x"]).max()) for line in lines] == [(0.5, 0.75), (0.5, 0.75)]
    assert figure["layout"]["xaxis"]["range"] == pytest.approx([0.49875, 0.75125])


def test_a_checkpoints_curve_ends_where_it_lies_and_absent_ones_keep_their_colour(pair: TestClient) -> None:
    figure = pair.get("/compare/figure?run=lab/bare&run=lab/small@10&run=lab/other&series=train/loss").json()
    curves = figure["panels"][0]["curves"]
    assert [curve["points"] for curve in curves] == [0, 10, 40]
    assert len({curve["colour"] for curve in curves}) == 3


def test_odd_windows_are_answered(pair: TestClient) -> None:
    for window in (
        "low=5&high=5",
        "low=9&high=2",
        "low=-5&high=1e300",
        "low=nan",
        "low=inf&high=-inf",
        "low=1e18&high=1e19",
    ):
        for x in ("step", "tokens", "fraction"):
            assert pair.get(f"/compare/figure?{PAIR}&x={x}&{window}").status_code in (200, 400), (window, x)


def test_pages_of_runs_and_checkpoints_lead_here(pair: TestClient) -> None:
    assert 'href="/compare?run=lab/small"' in pair.get("/runs/lab/small").text
    assert 'href="/compare?run=lab/small@5"' in pair.get("/runs/lab/small/checkpoints/5").text
    listed = pair.get("/").text
    assert 'value="lab/small"' in listed
    assert 'form="compare"' in listed


def test_the_list_costs_the_same_with_fifty_runs(app: FastAPI, engine: Engine, settings: Settings) -> None:
    client, counts = TestClient(app), []
    for start, end in ((0, 2), (2, 50)):
        for k in range(start, end):
            record(engine, settings, {"run": f"lab/r{k:02d}"})
        with counted(app.state.desk.engine) as statements:
            assert f"{end} of {end} runs" in client.get("/").text
        counts.append(len(statements))
    assert counts[0] == counts[1]


def test_the_list_answers_typing_with_its_table(pair: TestClient) -> None:
    part = pair.get("/?q=oth", headers={"HX-Request": "true", "HX-Target": "runs"}).text
    assert "<html" not in part
    assert "lab/other" in part
    assert "lab/small" not in part
    summary = pair.get("/api/v1/runs/lab/small").json()["summary"]
    assert summary["verified_files"] == summary["files"] > 0
    assert summary["verified_at"] is not None
    assert pair.get("/api/v1/runs/lab/bare").json()["summary"]["verified_at"] is None
