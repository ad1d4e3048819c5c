"""The committed data of demo/tiny is what its generator writes, and its order reads what it says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from portal.demo import tiny_data
from portal.demo.build import TINY
from portal.demo.tiny_data import (
    CHUNKS,
    EMPTY,
    GARBLED,
    NAN_STEP,
    PAD_ID,
    ROWS_PER_STEP,
    SPIKE_STEP,
    STAGES,
    VOCABULARY,
    Rows,
    rows_of_step,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = tiny_data.train_tokenizer()
    tiny_data.write_data(folder, tokenizer, tiny_data.make_chunks(tokenizer), tiny_data.make_order())
    return folder


@pytest.fixture(scope="module")
def chunks() -> dict[str, Rows]:
    return tiny_data.make_chunks(tiny_data.train_tokenizer())


def test_the_committed_files_are_written_again(written: Path) -> None:
    for path in sorted(p for p in written.rglob("*") if p.is_file()):
        committed = TINY / path.relative_to(written)
        if path.suffix == ".parquet":
            # The file names the version of the library that wrote it.
            assert pq.read_table(path).equals(pq.read_table(committed)), path.name
        else:
            assert path.read_bytes() == committed.read_bytes(), path.name


def test_the_order_reads_every_row_of_its_stage(chunks: dict[str, Rows]) -> None:
    order = tiny_data.make_order()
    assert order.shape == (600 * ROWS_PER_STEP,)
    for stage in STAGES:
        total = sum(len(chunks[plan.name].sources) for plan in tiny_data.stage_chunks(stage.name))
        own = order[(stage.first_step - 1) * ROWS_PER_STEP : stage.last_step * ROWS_PER_STEP]
        assert set(own.tolist()) == set(range(total))
        counts = Counter(Counter(own.tolist()).values())
        once = 17 if stage.name == "main" else 0
        assert counts.pop(1, 0) == once
        # All others are read equally often, give or take the pass that the stage ends in.
        assert max(counts) - min(counts) == 1


def test_the_spike_reads_noise_and_the_nan_reads_padding(chunks: dict[str, Rows]) -> None:
    order = tiny_data.make_order()
    garbled = chunks[GARBLED[0]].ids[GARBLED[1].start : GARBLED[1].stop]
    assert np.array_equal(rows_of_step(SPIKE_STEP, chunks, order).ids, garbled)
    assert set(rows_of_step(SPIKE_STEP, chunks, order).sources) == {"code"}
    padded = [step for step in range(1, 601) if (rows_of_step(step, chunks, order).ids == PAD_ID).all(axis=1).any()]
    assert padded == [NAN_STEP]
    assert (chunks[EMPTY[0]].ids[EMPTY[1]] == PAD_ID).all()


def test_rows_have_the_declared_sources_and_ids(chunks: dict[str, Rows]) -> None:
    for plan in CHUNKS:
        rows = chunks[plan.name]
        assert Counter(rows.sources) == plan.rows
        assert rows.ids.shape == (sum(plan.rows.values()), tiny_data.ROW_LENGTH)
        assert rows.ids.max() < VOCABULARY
