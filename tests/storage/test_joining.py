"""Ranges joined into few requests and taken apart again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portal.storage.joining import MANY, MAX_GAP, join_ranges

DATA = bytes(range(256)) * 8

SPANS = st.lists(st.tuples(st.integers(0, 1900), st.integers(1, 148)), max_size=30)


@given(SPANS, st.integers(1, 300))
def test_taking_apart_gives_what_was_asked_for(spans: list[tuple[int, int]], piece: int) -> None:
    joined = join_ranges(spans, piece)
    pieces = [DATA[at : at + length] for at, length in joined.pieces]
    assert joined.take_apart(pieces) == [DATA[at : at + length] for at, length in spans]
    assert all(0 < length <= piece for _, length in joined.pieces)


@given(st.lists(st.tuples(st.integers(0, 1900), st.integers(1, 148)), max_size=MANY))
def test_little_is_read_in_vain(spans: list[tuple[int, int]]) -> None:
    wanted = {k for at, length in spans for k in range(at, at + length)}
    assert sum(length for _, length in join_ranges(spans, 1 << 20).pieces) <= 1.1 * len(wanted) + 1


def test_neighbours_share_a_request_and_strangers_do_not() -> None:
    near = [(0, 10_000), (10_000, 10_000), (20_500, 10_000)]
    assert join_ranges(near, 1 << 20).pieces == [(0, 30_500)]
    assert len(join_ranges([(0, 10), (MAX_GAP * 2, 10)], 1 << 20).pieces) == 2


def test_many_near_ranges_are_few_requests_and_far_ones_stay_apart() -> None:
    near = [(k * 50_000, 100) for k in range(MANY + 1)]
    assert join_ranges(near, 8 << 20).pieces == [(0, MANY * 50_000 + 100)]
    assert len(join_ranges(near[:MANY], 8 << 20).pieces) == MANY
    far = [(k * (MAX_GAP + 200), 100) for k in range(MANY + 1)]
    assert len(join_ranges(far, 8 << 20).pieces) == MANY + 1
