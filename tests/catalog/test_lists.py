"""Checkpoints, chunks, configs, events, findings and evaluations: lists in pages, and one by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, insert
from sqlmodel import Session

from portal.catalog.answers import FoundFinding
from portal.catalog.checkpoints import get_checkpoint, list_checkpoints
from portal.catalog.data import get_chunk, list_chunks
from portal.catalog.evaluations import list_evaluations
from portal.catalog.findings import list_configs, list_events, list_findings
from portal.database import open_session
from portal.errors import BadRequest, CheckpointNotFound, ChunkNotFound, StepNotRecorded
from portal.models import Evaluation
from portal.settings import Settings
from tests.builders import SmallRun, many_checkpoints, record, small_run


def test_a_checkpoint_by_step_and_by_label_is_the_same(session: Session, settings: Settings, small: SmallRun) -> None:
    by_step = get_checkpoint(session, small.run, 10)
    assert by_step == get_checkpoint(session, small.run, "ckpt_002") == get_checkpoint(session, small.run, "10")
    assert (by_step.tokens, by_step.dtype, by_step.labels) == (640, "float32", ["ckpt_002"])
    assert [f.role for f in by_step.files] == ["weights", "optimizer"]
    assert by_step.previous is not None
    assert by_step.next is not None
    assert (by_step.previous.step, by_step.next.step) == (5, 15)


def test_links_follow_the_settings(session: Session, small: SmallRun) -> None:
    settings = Settings(data=small.folder, public_url="https://portal.example/")
    url = get_checkpoint(session, small.run, 5, settings).files[0].url
    assert url is not None
    assert url.startswith("https://portal.example/files/")


def test_folders_of_this_machine_are_not_shown(session: Session, small: SmallRun) -> None:
    view = get_checkpoint(session, small.run, 5)
    assert str(small.folder) not in repr(view)
    assert {f.location for f in view.files} == {"local"}


@pytest.mark.parametrize("asked", [7, "7", "0007"])
def test_a_step_without_a_checkpoint_names_its_neighbours(session: Session, small: SmallRun, asked: int | str) -> None:
    with pytest.raises(CheckpointNotFound) as refused:
        get_checkpoint(session, small.run, asked)
    assert refused.value.extra["nearest"] == [5, 10]


@pytest.mark.parametrize("asked", ["21", "-1", "1" + "0" * 30])
def test_a_checkpoint_outside_the_run_is_refused_with_the_range(session: Session, small: SmallRun, asked: str) -> None:
    with pytest.raises(StepNotRecorded):
        get_checkpoint(session, small.run, asked)


@pytest.mark.parametrize("asked", ["ckpt_999", "", "1" * 5000, "\0", "¹", "1.0", "<script>"])
def test_an_unknown_label_is_not_found(session: Session, small: SmallRun, asked: str) -> None:
    with pytest.raises(CheckpointNotFound):
        get_checkpoint(session, small.run, asked)


def test_a_soup_is_found_by_its_label(engine: Engine, settings: Settings) -> None:
    checkpoints = [{"step": 10}, {"labels": ["soup"], "parents": [{"step": 10}]}]
    record(engine, settings, {"run": "lab/soup", "checkpoints": checkpoints})
    with open_session(engine) as session:
        view = get_checkpoint(session, "lab/soup", "soup")
        assert (view.step, view.parents, view.previous, view.next) == (None, [{"step": 10}], None, None)
        assert [c.step for c in list_checkpoints(session, "lab/soup").items] == [10, None]


def test_pages_of_checkpoints_cover_them_all(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/many", 23)
    with open_session(engine) as session:
        seen, cursor = [], None
        while True:
            page = list_checkpoints(session, "lab/many", 10, cursor)
            seen += [c.step for c in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert seen == list(range(10, 240, 10))
        assert page.total == 23


def test_a_cursor_of_an_older_version_is_refused(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/many", 5)
    with open_session(engine) as session:
        cursor = list_checkpoints(session, "lab/many", 2).next
    many_checkpoints(engine, settings, "lab/many", 6)
    with open_session(engine) as session, pytest.raises(BadRequest, match="published again"):
        list_checkpoints(session, "lab/many", 2, cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001, 10**30])
def test_limits_are_checked(session: Session, small: SmallRun, limit: int) -> None:
    with pytest.raises(BadRequest):
        list_checkpoints(session, small.run, limit)


def test_a_chunk_with_its_files_steps_and_events(session: Session, small: SmallRun) -> None:
    view = get_chunk(session, small.run, "chunk_1")
    assert [f.path for f in view.files] == ["chunk_1.jsonl"]
    assert [(s.first_step, s.last_step) for s in view.chunk.spans] == [(11, 20)]
    assert [e.kind for e in view.events] == ["spike"]
    assert (view.previous, view.next) == ("chunk_0", None)
    assert [o.confidence for o in view.order] == ["exact"]
    assert [e.kind for e in get_chunk(session, small.run, "chunk_0").events] == ["nan_loss"]


def test_an_unknown_chunk_names_close_ones(session: Session, small: SmallRun) -> None:
    with pytest.raises(ChunkNotFound) as refused:
        get_chunk(session, small.run, "chunk_2")
    assert set(refused.value.extra["nearest"]) == {"chunk_0", "chunk_1"}


def test_a_chunk_read_again_is_numbered(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    chunk = {"name": "a", "files": [{"path": "a.jsonl"}], "format": "jsonl", "rows": 40}
    orders = [
        {"first_step": 1 + 10 * k, "last_step": 10 + 10 * k, "chunks": ["a"], "kind": "sequential"} for k in range(2)
    ]
    small_run(engine, settings, tmp_path / "again", data={"chunks": [chunk], "order": orders})
    with open_session(engine) as session:
        assert [s.repeat for s in list_chunks(session, "lab/small").items[0].spans] == [0, 1]


def test_configs_events_and_findings(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    found = [
        FoundFinding("gap", "warning", "A step is missing.", 3, {"count": 1}),
        FoundFinding("run", "info", "Whole run."),
    ]
    record(engine, settings, {"run": "lab/f", "events": [{"step": 2, "kind": "restart"}]}, findings=found)
    small_run(engine, settings, tmp_path / "small")
    with open_session(engine) as session:
        findings = list_findings(session, "lab/f")
        assert [(f.code, f.step, f.state) for f in findings.items] == [("gap", 3, "open"), ("run", None, "open")]
        assert list_events(session, "lab/f").items[0].origin == "declared"
        config = list_configs(session, "lab/small").items[0]
        assert config.file is not None
        assert (config.values, config.file.path) == ({"lr": 0.001}, "train.yaml")


def test_evaluations_in_pages_and_by_task(engine: Engine, settings: Settings) -> None:
    release = record(engine, settings, {"run": "lab/e"})
    rows = [
        {
            "release_id": release,
            "step": step,
            "suite": "zero-shot",
            "task": task,
            "metric": "acc",
            "value": None if step == 20 else (step or 0) / 100,
            "special": "nan" if step == 20 else None,
            "by": "authors",
            "source": "e.json",
        }
        for step in (30, 10, 20, None)
        for task in ("b", "a")
    ]
    with open_session(engine) as session:
        session.connection().execute(insert(Evaluation.__table__), rows)
        session.commit()
        page = list_evaluations(session, "lab/e", limit=3)
        assert [(e.step, e.task) for e in page.items] == [(10, "a"), (10, "b"), (20, "a")]
        assert page.total == 8
        rest = list_evaluations(session, "lab/e", cursor=page.next)
        assert [(e.step, e.task) for e in rest.items] == [(20, "b"), (30, "a"), (30, "b"), (None, "a"), (None, "b")]
        assert rest.next is None
        only = list_evaluations(session, "lab/e", task="b")
        assert [(e.step, e.value, e.special) for e in only.items][1] == (20, None, "nan")
        with pytest.raises(BadRequest, match="NUL"):
            list_evaluations(session, "lab/e", task="\0")
