"""How values are written on pages."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from portal.web.filters import (
    duration,
    in_bytes,
    metric,
    moment,
    number,
    percent,
    short,
    short_hash,
    visible,
    visible_lines,
)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.00 KiB"),
        (16_326_765_363, "15.2 GiB"),
        (2**60, "1,024 PiB"),
    ],
)
def test_bytes(value: int | None, written: str) -> None:
    assert in_bytes(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (980, "980"),
        (999_950, "1.00 M"),
        (6_738_415_616, "6.74 B"),
        (1_258_458_000_000, "1.26 T"),
        (4_587_520, "4.59 M"),
    ],
)
def test_counts_in_three_digits(value: int | None, written: str) -> None:
    assert short(value) == written


@pytest.mark.parametrize(
    ("value", "special", "written"),
    [
        (2.3098765, None, "2.3099"),
        (-0.5, None, "−0.5"),
        (2.1e-7, None, "2.1e−07"),
        (204_800.0, None, "204,800"),
        (math.nan, None, "NaN"),
        (math.inf, None, "+∞"),
        (-math.inf, None, "−∞"),
        (None, "nan", "NaN"),
        (None, "-inf", "−∞"),
        (None, None, "–"),
    ],
)
def test_measured_values(value: float | None, special: str | None, written: str) -> None:
    assert metric(value, special) == written


def test_other_numbers() -> None:
    assert number(274_320) == "274,320"
    assert number(0.25) == "0.25"
    assert percent(0.0238) == "2.4 %"
    assert percent(0.0001) == "<0.1 %"
    assert percent(0) == "0.0 %"
    assert short_hash("ab" * 32) == "abababababab"
    assert [duration(s) for s in (0, 0.01, 5, 65, 7500, 200_000)] == [
        "0 s",
        "< 0.1 s",
        "5.0 s",
        "1 min 5 s",
        "2 h 5 min",
        "2 d 7 h",
    ]


def test_moments_are_absolute_in_utc() -> None:
    at = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert moment(at) == '<time datetime="2026-02-28T23:30:00+00:00">2026-02-28 23:30 UTC</time>'
    assert moment(at.astimezone(UTC).replace(tzinfo=None)) == moment(at)
    assert moment(None) == "–"


def test_markup_and_what_hides_are_shown() -> None:
    assert visible("<b>&\"'") == "&lt;b&gt;&amp;&#34;&#39;"
    assert visible("a\u202eb\x1b[31m\x07") == (
        'a<span class="ctl">U+202E</span>b<span class="ctl">ESC</span>[31m<span class="ctl">BEL</span>'
    )
    assert visible("x\ny") == 'x<span class="ctl">↵</span>y'
    assert visible_lines("x\ny\t") == 'x\ny<span class="ctl">⇥</span>'
    assert visible("naïve 日本 😀 é") == "naïve 日本 😀 é"
    assert visible(Markup("<i>")) == "&lt;i&gt;"


@given(st.text())
def test_nothing_that_acts_survives(text: str) -> None:
    shown = str(visible(text))
    inner = shown.replace('<span class="ctl">', "").replace("</span>", "")
    assert "<" not in inner
    assert not [c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co"}]
