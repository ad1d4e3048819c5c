"""The demo's text is what it seems: sums that are right, code that parses, facts that are the listed ones."""

from __future__ import annotations

import ast
import re
from itertools import islice

import pytest

from portal.demo.text import SOURCES, documents, facts, sums


@pytest.mark.parametrize("source", SOURCES)
def test_a_seed_gives_its_own_text_again(source: str) -> None:
    first = list(islice(documents(source, 1), 50))
    assert first == list(islice(documents(source, 1), 50))
    assert first != list(islice(documents(source, 2), 50))
    assert len(set(first)) > 40 or source == "code"
    assert all(text and "{" not in text for text in first)


def test_every_equation_is_right() -> None:
    text = "\n".join(islice(documents("arithmetic", 3), 500))
    equations = re.findall(r"(\d+) ([+*-]) (\d+) = (\d+)", text)
    assert len(equations) > 1000
    for left, sign, right, result in equations:
        a, b = int(left), int(right)
        assert {"+": a + b, "-": a - b, "*": a * b}[sign] == int(result)


def test_code_parses_and_states_what_holds() -> None:
    for text in islice(documents("code", 3), 300):
        tree = ast.parse(text)
        if found := re.search(r"values = (\[.*\])\nassert (\w+)\(values\) == (\d+)", text):
            values = ast.literal_eval(found[1])
            assert {"max": max, "min": min, "sum": sum, "len": len}[found[2]](values) == int(found[3])
        if found := re.search(r"range\(0, (\d+), (\d+)\).*# (\d+)", text, re.DOTALL):
            assert sum(range(0, int(found[1]), int(found[2]))) == int(found[3])
        assert tree.body


def test_facts_are_the_listed_ones() -> None:
    known = {f"{question}{answer}" for question, answer in facts()}
    told = {fact for text in islice(documents("facts", 3), 500) for fact in text.rstrip(".").split(". ")}
    assert told == known


def test_all_one_digit_sums_are_asked() -> None:
    assert len(set(sums())) == 100
    assert ("7 + 5 =", " 12") in sums()
