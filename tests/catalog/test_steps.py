"""What lies at a step: checked against what was put there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.batches import read_batch
from portal.catalog.steps import get_step
from portal.database import open_session
from portal.errors import OrderUnknown, StepNotRecorded
from portal.settings import Settings
from tests.builders import SmallRun, many_checkpoints, small_run
from tests.catalog.queries import counted


def test_a_step_has_its_own_numbers(session: Session, settings: Settings, small: SmallRun) -> None:
    for step in range(1, 21):
        view = get_step(session, settings, small.run, step)
        loss = next(m for m in view.metrics if m.name == "train/loss")
        if np.isfinite(small.loss[step - 1]):
            assert (loss.value, loss.special) == (small.loss[step - 1], None)
        else:
            assert (loss.value, loss.special) == (None, {7: "nan", 13: "+inf"}[step])
        assert ("lr" in {m.name for m in view.metrics}) == (step % 2 == 1)
        assert view.tokens == 64 * step


def test_neighbouring_checkpoints(session: Session, settings: Settings, small: SmallRun) -> None:
    def around(step: int) -> list[int | None]:
        view = get_step(session, settings, small.run, step)
        return [ref.step if ref else None for ref in (view.before, view.at, view.after)]

    assert around(0) == [None, 0, 5]
    assert around(1) == [0, None, 5]
    assert around(5) == [0, 5, 10]
    assert around(6) == [5, None, 10]
    assert around(20) == [15, 20, None]


def test_stage_and_local_step(session: Session, settings: Settings, small: SmallRun) -> None:
    view = get_step(session, settings, small.run, 13)
    assert view.stage is not None
    assert (view.stage.name, view.local_step) == ("main", 3)


def test_data_config_and_events_of_a_step(session: Session, settings: Settings, small: SmallRun) -> None:
    view = get_step(session, settings, small.run, 13)
    assert (view.data.chunks, view.data.rows, view.data.readable, view.data.reason) == (["chunk_1"], 4, True, "")
    assert view.data.span is not None
    assert (view.data.span.first_step, view.data.span.last_step) == (11, 20)
    assert [e.kind for e in view.events] == ["spike"]
    assert view.config is not None
    assert view.config.values == {"lr": 0.001}
    assert view.config.file is not None
    assert view.config.file.url is not None


def test_the_initial_model_read_nothing(session: Session, settings: Settings, small: SmallRun) -> None:
    view = get_step(session, settings, small.run, 0)
    assert (view.data.rows, view.data.chunks, view.data.readable) == (0, [], False)
    assert "initial model" in view.data.reason


@pytest.mark.parametrize(("step", "nearest"), [(-1, 0), (21, 20), (10**30, 20), (-(10**4000), 0)])
def test_steps_outside_the_run_are_refused_with_the_range(
    session: Session, settings: Settings, small: SmallRun, step: int, nearest: int
) -> None:
    with pytest.raises(StepNotRecorded) as refused:
        get_step(session, settings, small.run, step)
    assert refused.value.extra["nearest"] == [nearest]
    assert "0 (the initial model) to 20" in refused.value.message
    assert len(refused.value.message) < 200


def test_a_half_batch_at_the_end_is_counted(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    data = {
        "chunks": [{"name": "c", "files": [{"path": "c.jsonl"}], "format": "jsonl", "rows": 78}],
        "order": [{"first_step": 1, "last_step": 20, "chunks": ["c"], "kind": "sequential"}],
    }
    small_run(engine, settings, tmp_path / "half", data=data)
    with open_session(engine) as session:
        assert get_step(session, settings, "lab/small", 20).data.rows == 2


def test_why_rows_cannot_be_read(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    chunk = {"name": "c", "files": [{"path": "hf://datasets/lab/d/c.jsonl"}], "format": "jsonl", "rows": 80}
    index = {"path": "hf://datasets/lab/d/order.npy"}
    cases = [
        ([], "No data order"),
        ([{"first_step": 1, "last_step": 20, "chunks": ["c"], "kind": "unknown"}], "not released"),
        ([{"first_step": 1, "last_step": 20, "chunks": ["c"], "kind": "sequential"}], "not on this machine"),
        (
            [{"first_step": 1, "last_step": 20, "chunks": ["c"], "kind": "index", "file": index, "dtype": "u32"}],
            "where its lines begin is not known",
        ),
    ]
    for k, (order, reason) in enumerate(cases):
        small_run(engine, settings, tmp_path / str(k), run=f"lab/case{k}", data={"chunks": [chunk], "order": order})
        with open_session(engine) as session:
            data = get_step(session, settings, f"lab/case{k}", 3).data
        assert not data.readable
        assert reason in data.reason


def test_a_second_look_asks_the_database_once_at_most(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/many", 20)
    with open_session(engine) as session:
        get_step(session, settings, "lab/many", 5)
        with counted(engine) as queries:
            get_step(session, settings, "lab/many", 155)
    assert len(queries) <= (0 if engine.dialect.name == "sqlite" else 1)


def test_a_new_version_is_seen_at_once(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    many_checkpoints(engine, settings, "lab/many", 5)
    with open_session(engine) as session:
        get_step(session, settings, "lab/many", 50)
        with pytest.raises(StepNotRecorded):
            get_step(session, settings, "lab/many", 60)
    many_checkpoints(engine, settings, "lab/many", 6)
    with open_session(engine) as session:
        assert get_step(session, settings, "lab/many", 60).at is not None


def test_a_batch_size_that_changes_inside_an_order_is_not_counted_over(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    stages = [
        {"name": "a", "first_step": 1, "last_step": 10},
        {"name": "b", "first_step": 11, "last_step": 20, "rows_per_step": 2},
    ]
    small_run(engine, settings, tmp_path / "sizes", stages=stages)
    with open_session(engine) as session:
        data = get_step(session, settings, "lab/small", 12).data
        assert (data.rows, data.readable) == (2, False)
        assert "batch size changes" in data.reason
        with pytest.raises(OrderUnknown, match="changes inside one order"):
            read_batch(session, settings, "lab/small", 12)
        assert len(read_batch(session, settings, "lab/small", 3).rows) == 4


def test_a_chunk_that_is_too_short_for_its_steps(engine: Engine, settings: Settings) -> None:
    chunk = {
        "names": {"pattern": "c{index:05d}", "count": 5},
        "files": [{"path": "x.jsonl"}],
        "format": "jsonl",
        "rows": 38,
    }
    order = {
        "first_step": 1,
        "last_step": 50,
        "chunks": {"pattern": "c{index:05d}", "count": 5},
        "kind": "sequential",
        "per_chunk": True,
        "steps_per_chunk": 10,
    }
    many_checkpoints(engine, settings, "lab/short", 5, data={"chunks": [chunk], "order": [order]})
    with open_session(engine) as session:
        assert get_step(session, settings, "lab/short", 29).data.rows == 4
        assert get_step(session, settings, "lab/short", 30).data.rows == 2
