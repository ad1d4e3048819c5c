"""Findings, events, configs, lineage and evaluations as pages: grouped, filtered, drawn."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, insert
from starlette.testclient import TestClient

from portal.catalog.answers import FoundFinding
from portal.database import open_session
from portal.models import Evaluation
from portal.settings import Settings
from tests.builders import record, series_data


@pytest.fixture
def pages(app: FastAPI, engine: Engine, settings: Settings) -> TestClient:
    """A run with 90 findings of one kind, two configs, a parent and more children than are drawn."""
    found = [FoundFinding("equal-weights", "error", f"Equal {k}.", k, {"steps": [k, k + 1]}, str(k)) for k in range(90)]
    configs = [{"values": {"lr": 1}, "first_step": 1, "last_step": 4}, {"values": {"lr": 2}, "first_step": 5}]
    document = {
        "run": "lab/r",
        "parent": {"run": "lab/gone", "step": 7},
        "kind": "resume",
        "configs": configs,
        "events": [{"step": 3, "kind": "spike", "note": "x" * 19_000}, {"step": 4, "kind": "restart"}],
        "description": "word " * 3000,
    }
    record(engine, settings, document, findings=found)
    for k in range(20):
        record(
            engine, settings, {"run": f"lab/child-{k:02d}", "kind": "finetune", "parent": {"run": "lab/r", "step": 5}}
        )
    return TestClient(app, raise_server_exceptions=False)


def test_findings_are_grouped_and_each_has_an_anchor(pages: TestClient) -> None:
    text = pages.get("/runs/lab/r/findings").text
    assert "90 times" in text
    assert text.count('class="finding"') == 3
    one = pages.get("/api/v1/runs/lab/r/findings?step=44").json()["items"][0]
    assert f'id="{one["id"]}"' in pages.get("/runs/lab/r/findings?step=44").text
    listed = pages.get("/runs/lab/r/findings?code=equal-weights").text
    assert listed.count('class="finding"') == 90
    assert "No finding is of this kind" in pages.get("/runs/lab/r/findings?severity=info").text


def test_events_by_kind_cut_long_notes(pages: TestClient) -> None:
    text = pages.get("/runs/lab/r/events?kind=spike").text
    assert "19,000 characters" in text
    assert "restart <" in text
    assert len(text) < 40_000
    assert pages.get("/api/v1/runs/lab/r/events?kind=restart").json()["total"] == 1


def test_configs_mark_what_differs_and_swap_only_the_table(pages: TestClient) -> None:
    assert 'class="differs"' in pages.get("/runs/lab/r/configs").text
    headers = {"HX-Request": "true", "HX-Target": "settings"}
    block = pages.get("/runs/lab/r/configs?q=nothing", headers=headers).text
    assert "<form" not in block
    assert "No setting contains" in block


def test_lineage_is_drawn_and_told(pages: TestClient) -> None:
    text = pages.get("/runs/lab/r/lineage").text
    drawing = text[text.index('<svg class="axis family"') : text.index("</svg>", text.index("axis family"))]
    assert 'href="/runs/lab/gone"' not in drawing
    assert "lab/gone" in drawing
    assert "and 6 more, listed below" in drawing
    assert 'href="/runs/lab/child-19"' in text


def test_evaluations_of_a_run_without_any(pages: TestClient) -> None:
    assert "publishes no evaluation" in pages.get("/runs/lab/r/evaluations?q=x").text


def test_evaluations_logged_as_series_are_pointed_to(app: FastAPI, engine: Engine, settings: Settings) -> None:
    series = [series_data(f"eval/{k} & more", [1, 2], [0.1, 0.2], group="eval") for k in range(8)]
    record(engine, settings, {"run": "lab/logged"}, series=series)
    text = TestClient(app).get("/runs/lab/logged/evaluations").text
    assert "8 metric series measured during training" in text
    assert 'href="/runs/lab/logged?series=eval/0%20%26%20more&amp;series=' in text


def test_other_shots_and_versions_are_curves_of_their_own(app: FastAPI, engine: Engine, settings: Settings) -> None:
    release = record(engine, settings, {"run": "lab/evals"})
    common = {"release_id": release, "suite": "", "by": "authors", "source": "e.json", "task": "arc", "metric": "acc"}
    rows = [
        common | {"step": step, "shots": shots, "version": version, "value": base + step / 100}
        for shots, version, base in ((None, None, 0.0), (5, "1", 0.3), (25, "1", 0.6), (25, "2", 0.8))
        for step in (1, 2, 3)
    ]
    with open_session(engine) as session:
        session.connection().execute(insert(Evaluation.__table__), rows)
        session.commit()
    client = TestClient(app)
    address = "/runs/lab/evals/evaluations?task=arc&metric=acc"
    for query, best in (
        ("", "0.03"),
        ("&shots=5", "0.33"),
        ("&shots=25&version=1", "0.63"),
        ("&shots=25&version=2", "0.83"),
    ):
        text = client.get(address + query).text
        assert "3 results" in text
        assert f"<strong>{best}</strong>" in text
        assert text.count("<circle") - text.count('<circle cx="10"') - text.count('<circle cx="7"') == 3
    assert "25-shot · version 2" in text
    found = client.get(f"{address}&q=25-shot", headers={"HX-Request": "true", "HX-Target": "measures"}).text
    assert found.count("<tr") == 3
