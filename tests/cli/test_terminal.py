"""Text of others is shown, never obeyed."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress

from portal.cli.progress import Bars
from portal.cli.terminal import (
    HIDDEN,
    complain,
    number,
    order_sentence,
    print_fields,
    print_json,
    print_table,
    say,
    size,
    visible,
)
from portal.database import create_database_engine
from portal.settings import Settings
from tests.builders import record
from tests.cli.conftest import Portal

EVIL = "\x1b[31mred\x1b]8;;http://evil\x1b\\link\x9b2J \u202eesrever\u2066 \0 \ud800 [red]plain[/red] :smile: \r\b\x7f\u200b"


@given(st.text())
def test_nothing_that_acts_is_left(text: str) -> None:
    shown = visible(text)
    assert not any(unicodedata.category(c) in HIDDEN for c in shown)
    if not any(unicodedata.category(c) in HIDDEN for c in text):
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202e", "\\u202e"),
        ("\U000e0041", "\\U000e0041"),
        ("naïve – 漢字 🙂", "naïve – 漢字 🙂"),
        ("\ud800", "\\ud800"),
    ],
)
def test_how_it_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_every_way_out_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL)
    complain(EVIL)
    print_fields([("name", EVIL), ("nothing", None)])
    print_table(["a", "b"], [(EVIL, 1), ("x" * 500, 2)], right=["b"])
    bars = Bars(Progress(disable=True), False)
    bars.advance(5)
    bars.begin(EVIL, 10)
    bars.begin("next", 0)
    bars.advance(5)
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert not any(unicodedata.category(c) in HIDDEN for c in text if c != "\n")
        assert "[red]plain[/red] :smile:" in text
    assert "x" * 500 in said.out, "a table in a pipe is not folded"
    print_json({"title": EVIL})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["title"] == EVIL


def test_bars_on_a_terminal_say_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(console=Console(quiet=True)) as progress:
        bars = Bars(progress, True)
        bars.begin("[red]x", 100)
        bars.advance(60)
        bars.advance(-10)
        assert progress.tasks[0].completed == 50
    assert capsys.readouterr().err == ""


def test_numbers_and_sizes() -> None:
    assert [number(v) for v in (None, 1234567, 0.1234567, float("nan"), float("inf"))] == [
        "–", "1,234,567", "0.123457", "nan", "inf",
    ]  # fmt: skip
    assert [size(v) for v in (None, 0, 1023, 1024, 1 << 30, 5 << 40)] == [
        "–", "0 B", "1,023 B", "1.0 KiB", "1.0 GiB", "5.00 TiB",
    ]  # fmt: skip


def test_confidence_is_said_once() -> None:
    assert order_sentence({"confidence": "exact", "reason": "Exact: yes."}) == "Exact: yes."
    assert order_sentence({"confidence": "chunk", "reason": "Only so."}) == "chunk: Only so."


def test_a_hostile_title_in_the_list_of_runs(portal: Portal, data: Path, sqlite_settings: Settings) -> None:
    engine = create_database_engine(sqlite_settings)
    title = EVIL.replace("\0", "").replace("\ud800", "")
    record(
        engine,
        sqlite_settings,
        {"run": "lab/evil", "title": title, "events": [{"step": 5, "kind": "note", "note": title}]},
    )
    engine.dispose()
    for said in (portal("runs"), portal("at", "lab/evil", 5)):
        assert said.code == 0
        assert "\\x1b[31mred\\x1b]8;;" in said.out
        assert "\\u202eesrever" in said.out
        assert "[red]plain[/red]" in said.out
        assert not any(unicodedata.category(c) in HIDDEN for c in said.out if c != "\n")
