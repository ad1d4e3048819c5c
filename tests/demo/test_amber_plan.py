"""demo/amber-scale has Amber's shape, and every step reads one chunk by one rule."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from portal.demo.amber_plan import SEED, Plan
from portal.demo.amber_scale import manifest
from portal.manifest import checkpoints_of, chunks_of, orders_of, stages_of
from portal.manifest.schema import Manifest
from portal.tokens.orders import chunk_spans


def plans() -> st.SearchStrategy[Plan]:
    """Small runs; some skip chunks next to each other or the first ones."""
    return st.integers(8, 30).flatmap(
        lambda chunks: st.builds(
            Plan,
            chunks=st.just(chunks),
            steps_per_chunk=st.integers(4, 40),
            skipped=st.sets(st.integers(0, chunks - 2), max_size=3).map(lambda found: tuple(sorted(found))),
            garbled=st.just((2,)),
            overflows=st.just((3,)),
        )
    )


def test_the_defaults_are_ambers() -> None:
    release = Manifest.model_validate(manifest(Plan()))
    checkpoints, chunks = checkpoints_of(release), chunks_of(release)
    assert [c.step for c in checkpoints] == [762 * (k + 1) for k in range(360)]
    assert checkpoints[171].labels == ("ckpt_171",)
    assert [c.name for c in chunks] == [f"train_{k:03d}" for k in range(360)]
    assert release.training.last_step == 274_320
    assert release.synthetic
    assert "not trained" in release.description
    full = stages_of(release)[-1]
    assert (full.rows_per_step, full.row_length, full.tokens_per_step) == (2240, 2049, 4_587_520)
    assert sum(len(metric.series) for metric in release.metrics) == 20


@given(plans())
def test_every_step_is_read_by_exactly_one_order(plan: Plan) -> None:
    orders = orders_of(Manifest.model_validate(manifest(plan)))
    assert orders[0].first_step == 1
    assert orders[-1].last_step == plan.last_step
    for before, after in pairwise(orders):
        assert after.first_step == before.last_step + 1


@given(plans())
def test_each_window_reads_its_chunk_with_the_seed_of_its_number(plan: Plan) -> None:
    windows = plan.windows()
    assert len(windows) == plan.chunks
    for order in orders_of(Manifest.model_validate(manifest(plan)))[:-1]:
        for k, span in enumerate(chunk_spans(order, 4, dict.fromkeys(order.chunks, plan.rows_per_chunk))):
            window = (span.first_step - 1) // plan.steps_per_chunk
            assert span.chunk == f"train_{windows[window]:03d}"
            assert (order.seed or 0) + k == SEED + window


@given(plans())
def test_skipped_chunks_are_never_read_and_the_first_ones_twice(plan: Plan) -> None:
    release = Manifest.model_validate(manifest(plan))
    read = Counter(name for order in orders_of(release) for name in order.chunks)
    skipped = {f"train_{k:03d}" for k in plan.skipped}
    assert {c.name for c in chunks_of(release) if c.skipped} == skipped
    assert {c.name for c in chunks_of(release)} - set(read) == skipped
    twice = [name for name, times in sorted(read.items()) if times == 2]
    assert max(read.values()) <= 2
    kept = [c.name for c in chunks_of(release) if not c.skipped]
    assert twice == kept[: len(plan.skipped) + 1]
