"""Rows an interval of steps read, as provenance names them: listed where they are few, else by their place or the reason."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from portal.catalog import read_spans as module
from portal.catalog.read_spans import ranges, read_spans
from portal.catalog.release import load_facts
from portal.database import open_session
from portal.settings import Settings
from portal.tokens.orders import locate_rows
from tests.builders import SMALL, record


def spans(engine: Engine, settings: Settings, first: int, last: int, **order: Any) -> list[module.ReadSpan]:
    told = {"first_step": 1, "last_step": 20, "chunks": ["chunk_0", "chunk_1"], "kind": "sequential"} | order
    record(engine, settings, SMALL | {"run": "lab/spans", "data": SMALL["data"] | {"order": [told]}})
    with open_session(engine) as session:
        return read_spans(load_facts(session, "lab/spans"), first, last)


def test_rows_read_one_after_another_are_one_range(engine: Engine, settings: Settings) -> None:
    found = spans(engine, settings, 9, 12)
    assert [(s.chunk, s.rows, s.unlisted) for s in found] == [("chunk_0", "32-39", ""), ("chunk_1", "0-7", "")]


def test_few_rows_of_a_permutation_are_listed_as_the_arithmetic_has_them(engine: Engine, settings: Settings) -> None:
    found = spans(engine, settings, 6, 10, kind="permutation", rng="numpy-RandomState", seed=5)
    with open_session(engine) as session:
        facts = load_facts(session, "lab/spans")
    entry = facts.orders.all[0].entry
    refs = [r for step in range(6, 11) for r in locate_rows(entry, 4, facts.chunk_rows, step, 0, 4)]
    assert {s.chunk: s.rows for s in found} == {
        name: ranges([r.row for r in refs if r.chunk == name]) for name in ("chunk_0", "chunk_1")
    }
    assert {s.positions for s in found} == {"20-39"}


def test_many_rows_of_a_permutation_are_named_by_their_positions(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LISTED", 10)
    found = spans(engine, settings, 6, 10, kind="permutation", rng="numpy-RandomState", seed=5)
    assert [(s.rows, s.positions) for s in found] == [("", "20-39")] * 2
    assert "numpy-RandomState with seed 5" in found[0].unlisted


def test_rows_of_an_order_file_are_named_by_their_positions(engine: Engine, settings: Settings) -> None:
    found = spans(engine, settings, 1, 2, kind="index", file={"path": "order.u32"}, dtype="u32")
    assert [(s.rows, s.positions) for s in found] == [("", "0-7")] * len(found)
    assert found[0].unlisted.startswith("The order file")


def test_chunks_ordered_alone_count_within_themselves(engine: Engine, settings: Settings) -> None:
    found = spans(engine, settings, 12, 13, per_chunk=True, steps_per_chunk=10)
    assert [(s.chunk, s.rows) for s in found] == [("chunk_1", "4-11")]


def test_an_unknown_order_says_so(engine: Engine, settings: Settings) -> None:
    found = spans(engine, settings, 1, 20, confidence="chunk")
    assert {(s.rows, s.unlisted) for s in found} == {("", "The order of the rows is not known.")}


def test_ranges() -> None:
    assert ranges([7, 3, 4, 3, 9, 8]) == "3-4,7-9"
    assert ranges([]) == ""
