"""The token inspector as a document: rows by page, source and number, and one of them in parts."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.testclient import TestClient

from portal.catalog.answers import TokenRow
from portal.settings import Settings
from portal.web.token_spans import PART, draw_tokens, parts_of
from tests.builders import byte_tokenizer, record

TOKENS = "/runs/lab/mixed/steps/1/tokens"
ROWS, LENGTH = 50, 1200


@pytest.fixture
def mixed(app: FastAPI, engine: Engine, settings: Settings, tmp_path: Path) -> TestClient:
    """``lab/mixed``: 50 rows of 1,200 ids from two sources, the one in row 31 broken."""
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer().to_str())
    ids = np.random.default_rng(2).integers(33, 90, (ROWS, LENGTH))
    lines = [json.dumps({"token_ids": row.tolist(), "source": "ab"[k % 3 == 0]}) for k, row in enumerate(ids)]
    lines[31] = lines[31].replace("[", "[x", 1)
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    training = {"last_step": 1, "sequence_length": LENGTH - 1, "row_length": LENGTH, "rows_per_step": ROWS}
    document: dict[str, Any] = {
        "run": "lab/mixed",
        "tokenizer": "tokenizer.json",
        "training": training | {"tokens_per_step": ROWS * (LENGTH - 1)},
        "data": {
            "chunks": [{"name": "rows", "files": [{"path": "rows.jsonl"}], "format": "jsonl", "rows": ROWS}],
            "order": [{"first_step": 1, "last_step": 1, "chunks": ["rows"], "kind": "sequential"}],
        },
    }
    record(engine, settings, document, tmp_path)
    return TestClient(app, raise_server_exceptions=False)


def listed(page: str) -> list[int]:
    rows = page.partition('<ol class="rows"')[2].partition("</ol>")[0]
    return [int(row) for row in re.findall(r'data-row="(\d+)"', rows)]


def drawn(page: str) -> list[int]:
    return [int(at) for at in re.findall(r'<b class="[^"]*" data-at="(\d+)"', page)]


def test_the_list_shows_a_screenful_and_leads_on(mixed: TestClient) -> None:
    page = mixed.get(f"{TOKENS}?row=25").text
    assert listed(page) == list(range(20, 40))
    assert f'href="{TOKENS}?row=0"' in page
    assert f'href="{TOKENS}?row=40"' in page
    assert listed(mixed.get(f"{TOKENS}?row=49").text) == list(range(40, 50))
    missed = mixed.get(f"{TOKENS}?row=50&show=ids")
    assert missed.status_code == 404
    assert f'href="{TOKENS}?show=ids&row=49"' in unescape(missed.text)


def test_the_list_can_be_of_one_source(mixed: TestClient) -> None:
    ofb = [k for k in range(ROWS) if k % 3 == 0]
    page = mixed.get(f"{TOKENS}?source=b").text
    assert listed(page) == ofb
    assert 'rel="next"' in page
    assert f"{TOKENS}?row=3&source=b" in unescape(page)
    assert f"0–{len(ofb) - 1} of {len(ofb)} from b" in page
    missed = mixed.get(f"{TOKENS}?row=4&source=b")
    assert missed.status_code == 404
    assert f"{TOKENS}?source=b&row=3" in unescape(missed.text)
    assert mixed.get(f"{TOKENS}?source=zzz").status_code == 404


def test_a_long_row_comes_in_parts(mixed: TestClient) -> None:
    page = mixed.get(f"{TOKENS}?row=2").text
    assert drawn(page) == list(range(PART))
    links = [unescape(link) for link in re.findall(r'class="more"\s+href="([^"]+)"', page)]
    assert links == [f"{TOKENS}?row=2&from={PART}", f"{TOKENS}?row=2&from={2 * PART}"]
    assert drawn(mixed.get(links[1]).text) == list(range(2 * PART, LENGTH))
    part = mixed.get(links[0], headers={"HX-Request": "true", "HX-Target": "part"}).text
    assert part.lstrip().startswith("<b ")
    assert drawn(part) == list(range(PART, 2 * PART))
    assert drawn(mixed.get(f"{TOKENS}?row=2&t=600-1100").text) == list(range(PART, 2 * PART))
    beyond = mixed.get(f"{TOKENS}?row=2&t=600-1200")
    assert (beyond.status_code, "600-1199" in beyond.text) == (404, True)
    assert len(page) < 90_000


def test_what_a_row_is_made_of_is_told(mixed: TestClient) -> None:
    page = mixed.get(f"{TOKENS}?row=2").text
    assert "1,200 = 1,199 + 1" in page
    assert f'data-stream="{2 * (LENGTH - 1)}"' in page
    assert 'data-hex="' in page
    assert 'href="/api/v1/r/lab/mixed/s/1/row/2?format=npy"' in page


def test_an_unreadable_row_says_why_and_its_neighbours_stay(mixed: TestClient) -> None:
    page = mixed.get(f"{TOKENS}?row=31").text
    assert 'role="alert"' in page
    assert 'href="/runs/lab/mixed/chunks/rows"' in page
    assert listed(page) == list(range(20, 40))
    assert page.count("unreadable") == 1
    assert drawn(mixed.get(f"{TOKENS}?row=32").text)[0] == 0
    told = mixed.get("/r/lab/mixed/s/1/row/31", headers={"Accept": "application/json"}).json()
    assert told["row"]["row"] == 31
    assert told["fault"]


def test_a_batch_that_lies_elsewhere_keeps_its_page(app: FastAPI, engine: Engine, settings: Settings) -> None:
    document: dict[str, Any] = {
        "run": "lab/far",
        "training": {"last_step": 9, "rows_per_step": 2, "row_length": 8},
        "data": {
            "chunks": [{"name": "far", "files": [{"path": "hf://datasets/a/b@c/d.jsonl"}], "format": "jsonl", "rows": 18}],
            "order": [{"first_step": 1, "last_step": 9, "chunks": ["far"], "kind": "sequential"}],
        },
    }  # fmt: skip
    record(engine, settings, document)
    client = TestClient(app)
    answer = client.get("/runs/lab/far/steps/3/tokens")
    assert answer.status_code == 503
    assert 'href="/runs/lab/far/chunks/far"' in answer.text
    assert 'href="/runs/lab/far/steps/3/pair?data=batch"' in answer.text
    assert client.get("/r/lab/far/s/3/row/1", headers={"Accept": "application/json"}).json()["fault"]


HIDING = {
    "controls": "\x00\x07\x08\x1b[31m\x7f\x85\x9b",
    "bidi": "\u202a\u202e\u2066\u2069\u061c\u200e\u200f",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e",
    "terminal link": "\x1b]8;;http://evil.example\x1b\\press\x1b]8;;\x07",
    "tags and blanks": "\U000e0041\U000e007f\u2800\u3164\u115f\uffa0",
    "lines": "\u2028\u2029\r\v\f",
    "surrogates": "\ud800\udfff",
    "markup": "</b><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;",
}


@pytest.mark.parametrize("name", HIDING)
def test_nothing_in_a_token_is_obeyed(name: str) -> None:
    piece = HIDING[name]
    row = TokenRow(0, "c", 0, None, [7, 8, 9], [piece, f" a{piece}", piece + "\n\t  x"], [], False, "f", 0, 0)
    markup = str(draw_tokens(row, {7: "1B 5D"}))
    told = re.sub(r"<[^>]*>", "", markup)
    assert not [c for c in markup if c in piece and not c.isprintable()]
    assert markup.encode()
    assert re.findall(r"<(\w+)", markup).count("b") == 3
    assert set(re.findall(r"</?(\w+)", markup)) <= {"b", "i", "span"}
    assert len(re.findall("U\\+|[A-Z]{2}|DC|&", told)) > 0


def test_spaces_and_breaks_are_seen() -> None:
    row = TokenRow(0, "c", 0, None, [1, 2, 3, 4], [" the", "    ", "a\n", "\tb"], [], True, "f", 0, 0)
    markup = str(draw_tokens(row, {}))
    assert '<b class="k1 sp" data-at="0" data-id="1"> the</b>' in markup
    assert '<i class="sps">    </i>' in markup
    assert '<i class="pic">⏎</i>\n' in markup
    assert '<i class="pic">⇥</i>\t' in markup
    assert markup.startswith('<span class="doc">begins inside a document</span>')
    assert "begins inside" not in str(draw_tokens(row, {}, 1, 3))


def test_parts_cover_a_row_once() -> None:
    for length in (0, 1, PART, PART + 1, 32_768):
        parts = parts_of(length)
        assert [at for first, end in parts for at in range(first, end)] == list(range(length))
