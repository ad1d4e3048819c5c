"""A chunk's page: its rows in file order, the steps that read them, the checkpoints meanwhile."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.batches import read_batch
from portal.catalog.data import get_chunk, sample_chunk
from portal.database import open_session
from portal.errors import BadRequest, ChunkNotFound, Unavailable
from portal.settings import Settings
from tests.builders import SmallRun, many_checkpoints


def test_first_middle_and_last_row(session: Session, settings: Settings, small: SmallRun) -> None:
    sample = sample_chunk(session, settings, small.run, "chunk_1")
    assert (sample.rows_total, sample.tokenizer) == (40, True)
    assert [(r.position, r.row) for r in sample.rows] == [(0, 0), (1, 20), (2, 39)]
    assert [r.token_ids for r in sample.rows] == [small.rows[40 + k].tolist() for k in (0, 20, 39)]
    assert {r.source for r in sample.rows} == {"s1"}


def test_rows_by_number_and_one_that_is_not_there(session: Session, settings: Settings, small: SmallRun) -> None:
    rows = sample_chunk(session, settings, small.run, "chunk_0", [7, 40, 3]).rows
    assert [r.row for r in rows] == [7, 40, 3]
    assert [bool(r.fault) for r in rows] == [False, True, False]
    assert rows[0].token_ids == small.rows[7].tolist()


def test_too_many_rows_and_no_chunk(session: Session, settings: Settings, small: SmallRun) -> None:
    with pytest.raises(BadRequest):
        sample_chunk(session, settings, small.run, "chunk_0", list(range(51)))
    with pytest.raises(BadRequest):
        sample_chunk(session, settings, small.run, "chunk_0", [-1])
    with pytest.raises(ChunkNotFound):
        sample_chunk(session, settings, small.run, "chunk_9")


def test_rows_elsewhere_are_not_read_here(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/far", 3)
    with open_session(engine) as session:
        assert get_chunk(session, "lab/far", "c00000").readable is False
        with pytest.raises(Unavailable, match="not on this machine"):
            sample_chunk(session, settings, "lab/far", "c00000")


def test_steps_name_the_rows_their_batches_hold(session: Session, settings: Settings, small: SmallRun) -> None:
    view = get_chunk(session, small.run, "chunk_1", settings)
    assert [s.step for s in view.step_rows] == [11, 15, 20]
    for named in view.step_rows:
        batch = read_batch(session, settings, small.run, named.step)
        assert [r.row for r in batch.rows if r.chunk == "chunk_1"][:8] == named.rows
    assert [c.step for c in view.checkpoints] == [15, 20]
    assert [c.step for c in get_chunk(session, small.run, "chunk_0").checkpoints] == [5, 10]


def test_a_shuffled_chunk_names_its_rows_too(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/shuffled", 3)
    with open_session(engine) as session:
        view = get_chunk(session, "lab/shuffled", "c00001")
    assert [s.step for s in view.step_rows] == [11, 15, 20]
    assert all(s.total == 4 and all(0 <= row < 40 for row in s.rows) for s in view.step_rows)
