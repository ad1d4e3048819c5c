"""Pairs: the off-by-one that everything depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.pairs import get_pair
from portal.database import open_session
from portal.errors import BadRequest, CheckpointNotFound, PortalError, StepNotRecorded
from portal.settings import Settings
from tests.builders import SmallRun, many_checkpoints, small_run
from tests.catalog.queries import counted


@pytest.mark.parametrize(
    ("step", "data", "steps", "checkpoint", "first", "last"),
    [
        (0, "next", None, 0, 1, 5),
        (5, "next", None, 5, 6, 10),
        (7, "next", None, 5, 6, 10),
        (5, "next", 3, 5, 6, 8),
        (0, "next", 20, 0, 1, 20),
        (15, "next", 5, 15, 16, 20),
        (5, "previous", None, 5, 1, 5),
        (10, "previous", None, 10, 6, 10),
        (12, "previous", None, 10, 6, 10),
        (20, "previous", 1, 20, 20, 20),
        (20, "previous", 20, 20, 1, 20),
        (1, "batch", None, 0, 1, 1),
        (5, "batch", None, 0, 5, 5),
        (6, "batch", 1, 5, 6, 6),
        (20, "batch", None, 15, 20, 20),
    ],
)
def test_which_steps_go_with_which_checkpoint(
    session: Session,
    settings: Settings,
    small: SmallRun,
    step: int,
    data: str,
    steps: int | None,
    checkpoint: int,
    first: int,
    last: int,
) -> None:
    pair = get_pair(session, settings, small.run, step, data, steps)
    assert (pair.step, pair.checkpoint.step) == (step, checkpoint)
    assert (pair.data.direction, pair.data.first_step, pair.data.last_step) == (data, first, last)
    assert pair.data.rows == 4 * (last - first + 1)
    assert pair.data.tokens == 64 * (last - first + 1)
    assert sum(c.rows or 0 for c in pair.data.chunks) == pair.data.rows


def test_files_and_bytes_of_a_pair(session: Session, settings: Settings, small: SmallRun) -> None:
    pair = get_pair(session, settings, small.run, 10, "next")
    assert [c.name for c in pair.data.chunks] == ["chunk_1"]
    assert [f.path for f in pair.files] == ["step10/model.safetensors", "step10/optimizer.bin", "chunk_1.jsonl"]
    sizes = [(small.folder / f.path).stat().st_size for f in pair.files]
    assert pair.total_bytes == sum(sizes)
    assert pair.unknown_sizes == 0
    assert all(f.url == f"/files/{f.sha256}/{f.path.rsplit('/', 1)[-1]}" for f in pair.files)


def test_a_pair_over_two_chunks_needs_rows_of_both(session: Session, settings: Settings, small: SmallRun) -> None:
    pair = get_pair(session, settings, small.run, 5, "next", 8)
    assert [(c.name, c.rows, c.first_step, c.last_step) for c in pair.data.chunks] == [
        ("chunk_0", 20, 6, 10),
        ("chunk_1", 12, 11, 13),
    ]


@pytest.mark.parametrize(
    ("step", "data", "steps", "error"),
    [
        (20, "next", None, BadRequest),
        (15, "next", 6, BadRequest),
        (0, "previous", None, BadRequest),
        (5, "previous", 6, BadRequest),
        (0, "batch", None, BadRequest),
        (5, "batch", 2, BadRequest),
        (5, "sideways", None, BadRequest),
        (5, "next", 0, BadRequest),
        (5, "next", 10**30, BadRequest),
        (21, "next", None, StepNotRecorded),
        (-1, "batch", None, StepNotRecorded),
        (10**30, "previous", None, StepNotRecorded),
    ],
)
def test_what_cannot_be_paired_is_refused_with_a_remedy(
    session: Session,
    settings: Settings,
    small: SmallRun,
    step: int,
    data: str,
    steps: int | None,
    error: type[PortalError],
) -> None:
    with pytest.raises(error) as refused:
        get_pair(session, settings, small.run, step, data, steps)
    assert refused.value.remedy


def test_before_the_first_checkpoint_the_nearest_is_named(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/many", 5)
    with open_session(engine) as session:
        for step, data in ((4, "next"), (4, "previous"), (10, "batch")):
            with pytest.raises(CheckpointNotFound) as refused:
                get_pair(session, settings, "lab/many", step, data)
            assert refused.value.extra["nearest"] == [10]


def test_a_lost_checkpoint_is_not_handed_out(engine: Engine, settings: Settings) -> None:
    checkpoints = [{"step": 10}, {"step": 20, "missing": True}, {"step": 30}]
    many_checkpoints(engine, settings, "lab/lost", 5, checkpoints=checkpoints)
    with open_session(engine) as session:
        pair = get_pair(session, settings, "lab/lost", 20, "next")
    assert (pair.checkpoint.step, pair.data.first_step, pair.data.last_step) == (10, 11, 30)


def test_per_chunk_orders_count_rows_by_steps(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/many", 5)
    with open_session(engine) as session:
        pair = get_pair(session, settings, "lab/many", 20, "next", 15)
    assert [(c.name, c.rows) for c in pair.data.chunks] == [("c00002", 40), ("c00003", 20)]
    assert pair.data.order.confidence == "reconstructed"
    assert pair.files[0].url == "https://huggingface.co/lab/model/resolve/c_1/model.safetensors"
    assert pair.files[1].url == "https://huggingface.co/datasets/lab/data/resolve/main/c00002.jsonl"
    assert pair.unknown_sizes == 2


def _order(kind: str, chunks: list[str], **more: Any) -> dict[str, Any]:
    return {"first_step": 1, "last_step": 20, "chunks": chunks, "kind": kind} | more


def test_rows_of_a_mixed_chunk_are_not_guessed(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    chunks = [{"name": n, "files": [{"path": f"{n}.jsonl"}], "format": "jsonl", "rows": 40} for n in ("a", "b")]
    order = _order("permutation", ["a", "b"], rng="numpy-PCG64", seed=1)
    small_run(engine, settings, tmp_path / "mixed", data={"chunks": chunks, "order": [order]})
    with open_session(engine) as session:
        pair = get_pair(session, settings, "lab/small", 5, "next")
    assert [c.rows for c in pair.data.chunks] == [None, None]
    assert pair.data.rows == 20


def test_index_files_come_with_the_pair(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    chunk = {"name": "a", "files": [{"path": "a.jsonl"}], "format": "jsonl", "rows": 80}
    order = _order("index", ["a"], file={"path": "order.u32"}, dtype="u32")
    small_run(engine, settings, tmp_path / "index", data={"chunks": [chunk], "order": [order]})
    with open_session(engine) as session:
        pair = get_pair(session, settings, "lab/small", 5, "next")
    assert [f.path for f in pair.data.order_files] == ["order.u32"]
    assert [f.path for f in pair.files].count("order.u32") == 1


def test_uncovered_steps_make_the_order_unknown(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    chunk = {"name": "a", "files": [{"path": "a.jsonl"}], "format": "jsonl", "rows": 80}
    order = _order("sequential", ["a"]) | {"last_step": 8}
    small_run(engine, settings, tmp_path / "gap", data={"chunks": [chunk], "order": [order]})
    with open_session(engine) as session:
        view = get_pair(session, settings, "lab/small", 5, "next").data.order
    assert view.confidence == "unknown"
    assert "2 of these 5 steps" in view.reason


def test_the_number_of_queries_does_not_grow(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/many", 25)
    counts = []
    with open_session(engine) as session:
        get_pair(session, settings, "lab/many", 10)
        for steps in (10, 150):
            with counted(engine) as queries:
                pair = get_pair(session, settings, "lab/many", 10, "next", steps)
            assert len(pair.data.chunks) == steps // 10
            counts.append(len(queries))
    assert counts[0] == counts[1]
