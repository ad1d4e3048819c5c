"""One checkpoint with all that leads to it and from it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, insert

from portal.catalog.checkpoints import get_checkpoint, list_checkpoints
from portal.database import open_session
from portal.models import Evaluation
from portal.settings import Settings
from tests.builders import many_checkpoints, record
from tests.catalog.queries import counted

TRAINING = {"last_step": 40, "rows_per_step": 2, "row_length": 8, "sequence_length": 8, "tokens_per_step": 16}


def chunk(name: str, rows: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "files": [{"path": f"{name}.jsonl"}], "format": "jsonl", "rows": rows, **more}


def run_with_sources(engine: Engine, settings: Settings, **order: Any) -> None:
    chunks = [chunk("a", 40, sources={"web": 1.0}), chunk("b", 40, sources={"web": 0.5, "code": 0.5})]
    rule = {"first_step": 1, "last_step": 40, "chunks": ["a", "b"], "kind": "sequential"} | order
    checkpoints = [{"step": step} for step in (0, 20, 30, 40)]
    data = {"chunks": chunks, "order": [rule]}
    record(engine, settings, {"run": "lab/s", "training": TRAINING, "checkpoints": checkpoints, "data": data})


def test_what_it_has_read_by_source(engine: Engine, settings: Settings) -> None:
    run_with_sources(engine, settings)
    with open_session(engine) as session:
        seen = get_checkpoint(session, "lab/s", 30).seen
        assert seen is not None
        assert (seen.tokens, seen.chunks, seen.reading, seen.unattributed) == (480, 1, ["b"], 0)
        assert {s.source: s.tokens for s in seen.sources} == {"web": 320 + 80, "code": 80}
        start = get_checkpoint(session, "lab/s", 0).seen
        assert start is not None
        assert (start.tokens, start.chunks, start.sources) == (0, 0, [])


def test_mixed_chunks_count_by_their_rows(engine: Engine, settings: Settings) -> None:
    run_with_sources(engine, settings, kind="permutation", rng="numpy-RandomState", seed=1)
    with open_session(engine) as session:
        seen = get_checkpoint(session, "lab/s", 20).seen
    assert seen is not None
    assert {s.source: s.tokens for s in seen.sources} == {"web": 240, "code": 80}


def test_tokens_of_unknown_sources_stay_unattributed(engine: Engine, settings: Settings) -> None:
    order = {"first_step": 1, "last_step": 40, "chunks": ["a", "b"], "kind": "sequential"}
    data = {"chunks": [chunk("a", 40, sources={"web": 1.0}), chunk("b", 40)], "order": [order]}
    record(engine, settings, {"run": "lab/u", "training": TRAINING, "checkpoints": [{"step": 40}], "data": data})
    with open_session(engine) as session:
        seen = get_checkpoint(session, "lab/u", 40).seen
    assert seen is not None
    assert ([(s.source, s.tokens) for s in seen.sources], seen.unattributed) == ([("web", 320)], 320)


def test_evaluations_stand_beside_those_before(engine: Engine, settings: Settings) -> None:
    release = record(engine, settings, {"run": "lab/e", "checkpoints": [{"step": s} for s in (10, 20, 30)]})
    common = {"release_id": release, "suite": "", "metric": "acc", "by": "authors", "source": "e.json"}
    rows = [
        {"step": 10, "task": "a", "value": 0.25, "version": "1", "shots": 0},
        {"step": 10, "task": "b", "value": 0.5, "version": "1", "shots": 0},
        {"step": 30, "task": "a", "value": 0.75, "version": "1", "shots": 0},
        {"step": 30, "task": "b", "value": 0.6, "version": "2", "shots": 0},
    ]
    with open_session(engine) as session:
        session.connection().execute(insert(Evaluation.__table__), [common | row for row in rows])
        session.commit()
        found = {e.task: e for e in get_checkpoint(session, "lab/e", 30).evaluations}
        first = get_checkpoint(session, "lab/e", 10).evaluations
    assert (found["a"].previous_step, found["a"].previous_value, found["a"].change) == (10, 0.25, 0.5)
    assert (found["b"].previous_step, found["b"].change) == (None, None), "another version cannot be compared"
    assert [e.change for e in first] == [None, None]


def test_settings_that_changed_since_the_checkpoint_before(engine: Engine, settings: Settings) -> None:
    configs = [
        {"values": {"optimizer": {"lr": 0.1, "beta": 0.9}, "seed": 1}, "first_step": 1, "last_step": 20},
        {"values": {"optimizer": {"lr": 0.05, "beta": 0.9}, "clip": 1}, "first_step": 21},
    ]
    checkpoints = [{"step": step} for step in (10, 20, 30, 40)]
    record(engine, settings, {"run": "lab/c", "training": TRAINING, "checkpoints": checkpoints, "configs": configs})
    with open_session(engine) as session:
        changes = get_checkpoint(session, "lab/c", 30).config_changes
        assert get_checkpoint(session, "lab/c", 20).config_changes == []
        assert get_checkpoint(session, "lab/c", 40).config_changes == []
    assert [(c.key, c.before, c.after, c.first_step) for c in changes] == [
        ("optimizer.lr", 0.1, 0.05, 21),
        ("seed", 1, None, 21),
        ("clip", None, 1, 21),
    ]


def test_runs_that_started_here(engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/base", "checkpoints": [{"step": 50}, {"step": 100}]})
    record(engine, settings, {"run": "lab/chat", "kind": "finetune", "parent": {"run": "lab/base", "step": 50}})
    with open_session(engine) as session:
        assert [d.run for d in get_checkpoint(session, "lab/base", 50).derived] == ["lab/chat"]
        assert get_checkpoint(session, "lab/base", 100).derived == []


def test_a_label_that_looks_like_a_step_never_hides_the_step(engine: Engine, settings: Settings) -> None:
    checkpoints = [{"step": 10}, {"step": 30, "labels": ["10", "20"]}]
    record(engine, settings, {"run": "lab/l", "training": TRAINING, "checkpoints": checkpoints})
    with open_session(engine) as session:
        ten = get_checkpoint(session, "lab/l", "10")
        assert ten.step == 10
        assert ten.namesake is not None
        assert ten.namesake.step == 30
        assert get_checkpoint(session, "lab/l", "20").step == 30
        assert get_checkpoint(session, "lab/l", "30").namesake is None


@pytest.mark.parametrize("count", [10, 1000])
def test_a_thousand_checkpoints_cost_the_queries_of_ten(count: int, engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/many", count)
    with open_session(engine) as session:
        with counted(engine) as cold:
            assert list_checkpoints(session, "lab/many", 1000).total == count
        with counted(engine) as warm:
            list_checkpoints(session, "lab/many", 1000)
        with counted(engine) as one:
            get_checkpoint(session, "lab/many", 10 * count)
    assert (len(cold), len(warm), len(one)) <= (20, 1, 6)
