"""Few reads, every byte asked for, and no more than the stated waste."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import DataFault, PortalError
from portal.tokens.spans import MAX_WASTE, Span, coalesce, fetch

FILES = [bytes(range(256)) * 40, bytes(reversed(range(256))) * 40]
spans = st.lists(st.builds(Span, st.integers(0, 1), st.integers(0, 9_000), st.integers(0, 1_000)), max_size=25)


def read(file: int, offset: int, length: int) -> bytes:
    found = FILES[file][offset : offset + length]
    if len(found) < length:
        raise DataFault("the file ends before")
    return found


@given(spans, st.booleans())
def test_every_span_gets_its_own_bytes(asked: list[Span], parallel: bool) -> None:
    found = fetch(asked, read, parallel)
    assert [bytes(view) for view in found if not isinstance(view, PortalError)] == [
        FILES[s.file][s.offset : s.offset + s.length] for s in asked
    ]


@given(spans)
def test_blocks_hold_each_span_once_and_waste_little(asked: list[Span]) -> None:
    blocks = coalesce(asked)
    assert sorted(k for block in blocks for k in block.members) == list(range(len(asked)))
    for block in blocks:
        wanted = set()
        for k in block.members:
            assert block.file == asked[k].file
            assert block.offset <= asked[k].offset
            assert asked[k].offset + asked[k].length <= block.offset + block.length
            wanted.update(range(asked[k].offset, asked[k].offset + asked[k].length))
        assert block.length <= len(wanted) * (1 + MAX_WASTE)


def test_neighbours_are_one_read_and_far_ones_are_not() -> None:
    assert len(coalesce([Span(0, 10, 10), Span(0, 0, 10), Span(0, 20, 5)])) == 1
    assert len(coalesce([Span(0, 0, 1000), Span(0, 1050, 1000)])) == 1
    assert len(coalesce([Span(0, 0, 1000), Span(0, 1900, 1000)])) == 2
    assert len(coalesce([Span(0, 0, 100_000), Span(0, 105_000, 100_000)])) == 2
    assert coalesce([]) == []


@pytest.mark.parametrize("parallel", [False, True])
def test_a_range_beyond_the_file_takes_no_neighbour_along(parallel: bool) -> None:
    size = len(FILES[0])
    found = fetch([Span(0, size - 20, 10), Span(0, size - 10, 20), Span(1, 0, 4)], read, parallel)
    assert bytes(found[0]) == FILES[0][-20:-10]  # type: ignore[arg-type]
    assert isinstance(found[1], DataFault)
    assert bytes(found[2]) == FILES[1][:4]  # type: ignore[arg-type]
