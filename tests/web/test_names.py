"""Names with slashes, question marks and dots: every link to them, and every link on their pages, leads to them."""

from __future__ import annotations

import csv
import re
from html import unescape
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.settings import Settings
from tests.builders import record, series_data

NAMES = ["wiki/part-0", "a/../../../x", "/", "//x", "q?x=1#top", "100%", "a b+c;d", "é/ü", "a\\b", "..x/.."]
FORMULA = "=cmd|'/C calc'!A0"


@pytest.fixture
def named(app: FastAPI, engine: Engine, settings: Settings) -> TestClient:
    chunk: dict[str, Any] = {"files": [{"path": "hf://datasets/lab/x@main/x.jsonl"}], "format": "jsonl", "rows": 4}
    document = {
        "run": "lab/named",
        "checkpoints": [
            {"labels": [name], "note": "A soup.", "parents": [{"step": 1}], "location": f"hf://lab/x@r{k}"}
            for k, name in enumerate(NAMES)
        ],
        "data": {"chunks": [chunk | {"name": name} for name in NAMES]},
    }
    numbers = [1.0, float("nan"), float("-inf")]
    series = [series_data(FORMULA, [1, 2, 3], numbers, unit="+1"), series_data("-x", [1], [-2.5], unit="\t=1")]
    record(engine, settings, document, None, series)
    return TestClient(app)


@pytest.mark.parametrize("noun", ["chunks", "checkpoints"])
def test_pages_of_odd_names_are_found_by_their_links(named: TestClient, noun: str) -> None:
    listed = named.get(f"/runs/lab/named/{noun}").text
    links = {unescape(link) for link in re.findall(rf'href="(/runs/lab/named/{noun}/[^"]+)"', listed)}
    assert len(links) == len(NAMES)
    found = set()
    for link in links:
        page = named.get(link)
        assert page.status_code == 200, link
        twin = re.search(r'<a href="([^"]+)">This page as JSON', page.text)
        assert twin is not None
        answer = named.get(unescape(twin[1]))
        assert answer.status_code == 200, twin[1]
        found.add(answer.json()["labels"][0] if noun == "checkpoints" else answer.json()["chunk"]["name"])
    assert found == set(NAMES)


def test_what_is_near_an_odd_name_is_linked(named: TestClient) -> None:
    answer = named.get("/runs/lab/named/chunks/wiki%2Fpart-9")
    assert answer.status_code == 404
    assert 'href="/runs/lab/named/chunks/wiki%2Fpart-0"' in answer.text


def test_tables_run_nothing_where_they_are_opened(named: TestClient) -> None:
    answer = named.get("/runs/lab/named/figure.csv", params={"series": [FORMULA, "-x"]})
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert {(row["series"], row["unit"]) for row in rows} == {(f"'{FORMULA}", "'+1"), ("'-x", "'\t=1")}
    assert rows[-1]["mean"] == "-2.5"
