"""Intervals are found by step, whatever their number and overlap."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from portal.catalog.facts import Spans


@dataclass(frozen=True)
class Piece:
    first_step: int
    last_step: int


pieces = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 30)).map(lambda p: Piece(p[0], p[0] + p[1])), max_size=30
)


@given(pieces, st.integers(-5, 95), st.integers(0, 40))
def test_spans_over_an_interval_are_those_that_share_a_step_with_it(
    given_pieces: list[Piece], first: int, length: int
) -> None:
    last = first + length
    found = Spans(given_pieces).over(first, last)
    expected = [
        p for p in sorted(given_pieces, key=lambda p: p.first_step) if p.first_step <= last and p.last_step >= first
    ]
    assert sorted(found, key=lambda p: (p.first_step, p.last_step)) == sorted(
        expected, key=lambda p: (p.first_step, p.last_step)
    )


@given(pieces, st.integers(-5, 95))
def test_spans_at_a_step_hold_at_it(given_pieces: list[Piece], step: int) -> None:
    found = Spans(given_pieces).at(step)
    assert sorted(map(id, found)) == sorted(id(p) for p in given_pieces if p.first_step <= step <= p.last_step)
