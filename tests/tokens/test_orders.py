"""A step names its rows: every row once, in the order stated, or a reason why not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import BadRequest, DataFault, OrderUnknown
from portal.tokens.orders import (
    RowRef,
    SpanOfChunk,
    chunk_spans,
    explain_order,
    last_step_with_data,
    locate_rows,
    rows_total,
)
from tests.tokens.orders_made import order

AMBER_ROWS = 1_706_976
counts = st.lists(st.integers(0, 30), min_size=1, max_size=6)


def named(rows: list[int]) -> dict[str, int | None]:
    return {f"c{k}": count for k, count in enumerate(rows)}


def steps_of(total: int, per_step: int) -> int:
    return -(-total // per_step)


@given(counts, st.integers(1, 9), st.sampled_from(["sequential", "permutation", "index"]), st.integers(0, 99))
def test_an_epoch_reads_every_row_exactly_once(rows: list[int], per_step: int, kind: str, seed: int) -> None:
    chunk_rows, total = named(rows), sum(rows)
    shuffled = np.random.default_rng(seed).permutation(total)
    stated = order(kind, tuple(chunk_rows), last_step=max(steps_of(total, per_step), 1), seed=seed)
    seen: Counter[tuple[str, int]] = Counter()
    for step in range(1, steps_of(total, per_step) + 1):
        found = locate_rows(stated, per_step, chunk_rows, step, 0, 10**6, lambda at, n: shuffled[at : at + n])
        assert [ref.position for ref in found] == list(range(len(found)))
        assert len(found) == rows_total(stated, per_step, chunk_rows, step, total)
        seen.update((ref.chunk, ref.row) for ref in found)
    assert seen == {(name, row): 1 for name, count in chunk_rows.items() for row in range(count or 0)}


@given(counts, st.integers(1, 9), st.data())
def test_a_window_is_a_part_of_the_batch(rows: list[int], per_step: int, data: st.DataObject) -> None:
    chunk_rows, total = named(rows), sum(rows)
    stated = order("permutation", tuple(chunk_rows), last_step=200)
    step = data.draw(st.integers(1, max(steps_of(total, per_step), 1)))
    first, count = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 12))
    if total == 0:
        return
    whole = locate_rows(stated, per_step, chunk_rows, step, 0, per_step)
    assert locate_rows(stated, per_step, chunk_rows, step, first, count) == whole[first : first + count]


def test_sequential_rows_run_on_into_the_next_chunk() -> None:
    found = locate_rows(order(), 4, {"c0": 6, "c1": 0, "c2": 9}, 2, 0, 4)
    assert found == [RowRef(0, "c0", 4), RowRef(1, "c0", 5), RowRef(2, "c2", 0), RowRef(3, "c2", 1)]


def test_the_last_half_batch_is_half() -> None:
    chunk_rows = {"c0": 10}
    assert rows_total(order(chunks=("c0",)), 4, chunk_rows, 3) == 2
    assert [r.row for r in locate_rows(order(chunks=("c0",)), 4, chunk_rows, 3, 0, 4)] == [8, 9]
    assert locate_rows(order(chunks=("c0",)), 4, chunk_rows, 3, 2, 4) == []


@pytest.mark.parametrize("kind", ["sequential", "permutation"])
def test_a_step_past_the_data_is_refused(kind: str) -> None:
    for ask in (lambda o: locate_rows(o, 4, {"c0": 10}, 4, 0, 4), lambda o: rows_total(o, 4, {"c0": 10}, 4)):
        with pytest.raises(OrderUnknown, match=r"points past the data.*position 12.*10 rows"):
            ask(order(kind, ("c0",)))
    assert last_step_with_data(order(kind, ("c0",)), 4, {"c0": 10}) == 2


def test_a_chunk_listed_twice_is_read_twice() -> None:
    stated = order(chunks=("c0", "c1", "c0"))
    assert locate_rows(stated, 2, {"c0": 2, "c1": 2}, 3, 0, 2) == [RowRef(0, "c0", 0), RowRef(1, "c0", 1)]
    spans = chunk_spans(stated, 2, {"c0": 2, "c1": 2})
    assert spans == [SpanOfChunk("c0", 1, 1), SpanOfChunk("c1", 2, 2), SpanOfChunk("c0", 3, 3)]


def test_start_and_first_step_move_the_first_position() -> None:
    stated = order(chunks=("c0",), first_step=11, last_step=20, start=5)
    assert [r.row for r in locate_rows(stated, 3, {"c0": 100}, 12, 0, 3)] == [8, 9, 10]


class TestIndex:
    """Orders published as a file."""

    def test_entries_number_the_rows_of_all_chunks(self) -> None:
        entries = np.array([9, 0, 5, 4, 3])
        found = locate_rows(order("index"), 2, {"c0": 4, "c1": 2, "c2": 4}, 2, 0, 2, lambda at, n: entries[at : at + n])
        assert found == [RowRef(0, "c1", 1), RowRef(1, "c1", 0)]

    def test_an_entry_beyond_the_data_names_itself(self) -> None:
        with pytest.raises(DataFault, match=r"names row 925,801,835, but its 1 chunks hold 925,201,012 rows"):
            locate_rows(
                order("index", ("c0",)), 1, {"c0": 925_201_012}, 1, 0, 1, lambda _at, _n: np.array([925_801_835])
            )

    def test_a_negative_entry_is_refused(self) -> None:
        with pytest.raises(DataFault, match="names row -1"):
            locate_rows(order("index"), 1, {"c0": 5, "c1": 5, "c2": 5}, 1, 0, 1, lambda _at, _n: np.array([-1]))

    def test_a_file_that_ends_too_early_is_told_from_an_empty_window(self) -> None:
        entries = np.arange(6)
        chunk_rows = {"c0": 6}

        def ask(step: int, first: int) -> list[RowRef]:
            return locate_rows(
                order("index", ("c0",)), 4, chunk_rows, step, first, 4, lambda at, n: entries[at : at + n]
            )

        assert len(ask(2, 0)) == 2
        assert ask(2, 3) == []
        with pytest.raises(OrderUnknown, match=r"order.npy ends before position 8"):
            ask(3, 0)
        assert rows_total(order("index", ("c0",)), 4, chunk_rows, 2, entries=6) == 2
        with pytest.raises(OrderUnknown, match="past the data"):
            rows_total(order("index", ("c0",)), 4, chunk_rows, 3, entries=6)
        assert last_step_with_data(order("index", ("c0",)), 4, chunk_rows, entries=6) == 1
        assert last_step_with_data(order("index", ("c0",)), 4, chunk_rows) is None
        assert rows_total(order("index", ("c0",)), 4, chunk_rows, 50) == 4

    def test_a_file_nobody_holds_is_said(self) -> None:
        with pytest.raises(OrderUnknown, match="cannot read"):
            locate_rows(order("index"), 2, {}, 1, 0, 2, None)

    def test_per_chunk_does_not_go_with_an_index(self) -> None:
        stated = order("index", ("c0",), per_chunk=True, steps_per_chunk=2)
        with pytest.raises(OrderUnknown, match="per_chunk"):
            locate_rows(stated, 2, {"c0": 4}, 1, 0, 2, lambda _at, _n: np.arange(2))


class TestPerChunk:
    """Every chunk ordered alone, its remainder dropped."""

    AMBER = order(
        "permutation", ("train_000", "train_001"), last_step=1524, per_chunk=True, steps_per_chunk=762, seed=11111
    )
    ROWS = {"train_000": AMBER_ROWS, "train_001": AMBER_ROWS}  # noqa: RUF012 - never changed

    def test_amber_step_by_step(self) -> None:
        first = np.random.RandomState(11111).permutation(AMBER_ROWS)
        second = np.random.RandomState(11112).permutation(AMBER_ROWS)
        for step, expected in ((1, first[:2240]), (762, first[761 * 2240 : 762 * 2240]), (763, second[:2240])):
            found = locate_rows(self.AMBER, 2240, self.ROWS, step, 0, 2240)
            assert [ref.row for ref in found] == expected.tolist()
            assert {ref.chunk for ref in found} == {"train_000" if step < 763 else "train_001"}

    def test_amber_drops_96_rows_of_each_chunk(self) -> None:
        read = 762 * 2240
        assert AMBER_ROWS - read == 96
        assert last_step_with_data(self.AMBER, 2240, self.ROWS) == 1524
        assert chunk_spans(self.AMBER, 2240, self.ROWS) == [
            SpanOfChunk("train_000", 1, 762), SpanOfChunk("train_001", 763, 1524)
        ]  # fmt: skip

    def test_start_continues_inside_the_first_chunk(self) -> None:
        whole = order("sequential", ("c0", "c1"), per_chunk=True, steps_per_chunk=3)
        late = order("sequential", ("c0", "c1"), per_chunk=True, steps_per_chunk=3, first_step=3, last_step=6, start=4)
        rows = {"c0": 7, "c1": 7}
        for step in range(3, 7):
            assert locate_rows(late, 2, rows, step, 0, 2) == locate_rows(whole, 2, rows, step, 0, 2)
        assert chunk_spans(late, 2, rows) == [SpanOfChunk("c0", 3, 3), SpanOfChunk("c1", 4, 6)]

    def test_without_steps_per_chunk_each_gives_its_whole_batches(self) -> None:
        stated = order("sequential", ("c0", "c1"), per_chunk=True)
        assert locate_rows(stated, 2, {"c0": 5, "c1": 4}, 3, 0, 2) == [RowRef(0, "c1", 0), RowRef(1, "c1", 1)]
        assert last_step_with_data(stated, 2, {"c0": 5, "c1": 4}) == 4
        with pytest.raises(OrderUnknown, match="c1"):
            locate_rows(stated, 2, {"c0": 5, "c1": None}, 3, 0, 2)

    def test_a_chunk_too_short_for_its_steps_ends_in_a_half_batch(self) -> None:
        stated = order("sequential", ("c0", "c1"), per_chunk=True, steps_per_chunk=3)
        rows = {"c0": 3, "c1": 6}
        assert [rows_total(stated, 2, rows, step) for step in (1, 2, 4)] == [2, 1, 2]
        assert [r.row for r in locate_rows(stated, 2, rows, 2, 0, 2)] == [2]
        with pytest.raises(OrderUnknown, match="past the data"):
            locate_rows(stated, 2, rows, 3, 0, 2)
        with pytest.raises(OrderUnknown, match="past the data"):
            locate_rows(stated, 2, rows, 7, 0, 2)
        assert last_step_with_data(stated, 2, rows) == 1

    def test_rows_of_the_chunk_must_be_known(self) -> None:
        stated = order("permutation", ("c0",), per_chunk=True, steps_per_chunk=3)
        with pytest.raises(OrderUnknown, match="How many rows chunk c0 holds"):
            locate_rows(stated, 2, {}, 1, 0, 2)
        assert last_step_with_data(stated, 2, {}) is None


class TestUnknownCounts:
    """Some chunks were never counted."""

    def test_a_single_uncounted_chunk_can_be_read_in_file_order(self) -> None:
        assert locate_rows(order(chunks=("c0",)), 4, {"c0": None}, 3, 0, 1) == [RowRef(0, "c0", 8)]
        assert rows_total(order(chunks=("c0",)), 4, {"c0": None}, 3) == 4

    def test_rows_before_an_uncounted_chunk_can_be_named_those_behind_it_cannot(self) -> None:
        chunk_rows = {"c0": 4, "c1": None, "c2": 4}
        assert locate_rows(order(), 4, chunk_rows, 1, 0, 4)[3] == RowRef(3, "c0", 3)
        with pytest.raises(OrderUnknown, match="chunk c1 holds is not recorded"):
            locate_rows(order(), 4, chunk_rows, 2, 0, 4)

    def test_a_permutation_needs_all_counts(self) -> None:
        with pytest.raises(OrderUnknown, match="chunk c2 holds"):
            locate_rows(order("permutation"), 4, {"c0": 4, "c1": 4}, 1, 0, 4)

    def test_spans_behind_an_uncounted_chunk_reach_to_the_end(self) -> None:
        assert chunk_spans(order(last_step=9), 4, {"c0": 8, "c1": None, "c2": 4}) == [
            SpanOfChunk("c0", 1, 2), SpanOfChunk("c1", 3, 9), SpanOfChunk("c2", 3, 9)
        ]  # fmt: skip


class TestSpans:
    """Which chunk in which steps."""

    @given(counts, st.integers(1, 9), st.integers(0, 20))
    def test_spans_cover_exactly_the_steps_that_read_a_chunk(self, rows: list[int], per_step: int, start: int) -> None:
        chunk_rows, total = named(rows), sum(rows)
        stated = order(chunks=tuple(chunk_rows), start=start, last_step=50)
        read: dict[str, list[int]] = {}
        for step in range(1, steps_of(max(total - start, 0), per_step) + 1):
            if step <= 50:
                for ref in locate_rows(stated, per_step, chunk_rows, step, 0, per_step):
                    read.setdefault(ref.chunk, []).append(step)
        assert chunk_spans(stated, per_step, chunk_rows) == [SpanOfChunk(c, min(s), max(s)) for c, s in read.items()]

    def test_mixed_chunks_span_the_interval(self) -> None:
        for kind in ("index", "permutation", "unknown"):
            assert chunk_spans(order(kind, ("a", "b", "a")), 4, {"a": 8, "b": 8}) == [
                SpanOfChunk("a", 1, 100), SpanOfChunk("b", 1, 100)
            ]  # fmt: skip

    def test_an_order_known_to_the_chunk_has_chunk_spans_but_no_rows(self) -> None:
        stated = order("unknown", ("c0", "c1"), confidence="chunk")
        assert chunk_spans(stated, 2, {"c0": 4, "c1": 4}) == [SpanOfChunk("c0", 1, 2), SpanOfChunk("c1", 3, 4)]
        with pytest.raises(OrderUnknown, match="chunk only"):
            locate_rows(stated, 2, {"c0": 4, "c1": 4}, 1, 0, 2)

    def test_without_a_batch_size_chunks_span_the_interval(self) -> None:
        assert chunk_spans(order(chunks=("c0",)), None, {"c0": 8}) == [SpanOfChunk("c0", 1, 100)]


class TestRefusals:
    """Questions without an answer say why."""

    def test_a_step_outside_the_interval(self) -> None:
        for step in (0, -3, 101, 10**30):
            with pytest.raises(OrderUnknown, match="covers steps 1-100"):
                locate_rows(order(), 4, {"c0": 4}, step, 0, 4)

    def test_an_unknown_order_and_an_order_without_chunks(self) -> None:
        with pytest.raises(OrderUnknown, match="not released"):
            rows_total(order("unknown"), 4, {}, 1)
        with pytest.raises(OrderUnknown, match="lists no chunks"):
            locate_rows(order(chunks=()), 4, {}, 1, 0, 4)
        assert last_step_with_data(order("unknown"), 4, {}) is None

    def test_negative_windows(self) -> None:
        with pytest.raises(BadRequest):
            locate_rows(order(), 4, {"c0": 4}, 1, -1, 4)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (None, "No data order is recorded"),
        (order("unknown", assumption="mixture known"), "not released (mixture known)."),
        (order("unknown", confidence="chunk"), "Known to the chunk only"),
        (order("sequential"), "Exact: rows were read one after another"),
        (order("index"), "published index file order.npy"),
        (
            order("permutation", per_chunk=True, draw=2, assumption="restarted at every chunk"),
            "Reconstructed: each chunk's rows were shuffled by numpy-RandomState with seed 7 + chunk number, draw 2; "
            "it holds if the stated assumption does (restarted at every chunk).",
        ),
        (order("permutation"), "(no assumption is stated)"),
        (order("permutation", confidence="exact"), "Exact: rows were shuffled by numpy-RandomState with seed 7."),
    ],
)
def test_an_order_explains_itself_in_a_sentence(stated: object, said: str) -> None:
    sentence = explain_order(stated)  # type: ignore[arg-type]
    assert said in sentence
    assert sentence.endswith(".")
