"""Runs and checkpoints side by side: what differs, what is missing, who is best and when nobody can say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert
from sqlmodel import Session

from portal.catalog.answers import ComparedRow, Comparison
from portal.catalog.compare import compare, find_subject
from portal.database import open_session
from portal.errors import BadRequest, CheckpointNotFound, RunNotFound, StepNotRecorded
from portal.metrics.directions import better_direction
from portal.models import Evaluation
from portal.settings import Settings
from tests.builders import many_checkpoints, record, series_data, small_run
from tests.catalog.queries import counted


def compared(session: Session, *names: str, **options: Any) -> Comparison:
    return compare(session, [find_subject(session, name) for name in names], **options)


def row(rows: list[ComparedRow], name: str) -> ComparedRow:
    return next(r for r in rows if r.name == name)


@pytest.fixture
def runs(engine: Engine, settings: Settings, tmp_path: Path) -> Engine:
    small = small_run(engine, settings, tmp_path / "release")
    document = {
        "run": "lab/other",
        "training": {"last_step": 50, "tokens_per_step": 100, "row_length": 50, "rows_per_step": 2},
        "configs": [{"values": {"lr": 0.001, "optimizer": {"name": "adam"}, "seed": None}, "first_step": 1}],
    }
    other = record(engine, settings, document, None, [series_data("loss", [1, 2], [2.0, 1.0], unit="bits")])
    results = [
        (small.release_id, 10, "arc", "acc", 0.25), (small.release_id, 20, "arc", "acc", 0.5),
        (small.release_id, 20, "pile", "word_perplexity,none", 9.0), (small.release_id, 20, "odd", "score", 1.0),
        (other, 50, "arc", "acc", 0.75), (other, 50, "pile", "word_perplexity,none", 12.0),
        (other, 50, "odd", "score", 2.0), (other, None, "late", "acc", 0.1),
    ]  # fmt: skip
    with open_session(engine) as session:
        for release, step, task, metric, value in results:
            values = {"release_id": release, "step": step, "task": task, "metric": metric, "value": value}
            session.execute(insert(Evaluation).values(suite="zero-shot", by="lab", source="e.json", **values))
        session.commit()
    return engine


def test_settings_are_a_union_with_missing_ones_marked(runs: Engine) -> None:
    with open_session(runs) as session:
        found = compared(session, "lab/small", "lab/other")
    assert row(found.config, "lr") == ComparedRow("lr", ["0.001", "0.001"], True)
    assert row(found.config, "optimizer.name") == ComparedRow("optimizer.name", [None, "adam"], False)
    assert row(found.config, "seed").values == [None, "null"], "null is a value, not an absence"
    assert found.config_steps == [1, 1]
    assert row(found.facts, "steps") == ComparedRow("steps", ["20", "50"], False)
    assert row(found.facts, "tokens").values == ["1280", "5000"]


def test_the_best_is_named_only_where_the_direction_is_known(runs: Engine) -> None:
    with open_session(runs) as session:
        lines = {(e.task, e.metric): e for e in compared(session, "lab/small", "lab/other").evaluations}
        at_step = compared(session, "lab/small@10", "lab/small@20").evaluations
    arc, pile = lines["arc", "acc"], lines["pile", "word_perplexity,none"]
    assert [r.value if r else None for r in arc.results] == [0.5, 0.75], "the latest of each run"
    assert (arc.better, arc.best) == ("higher", [1])
    assert (pile.better, pile.best) == ("lower", [0])
    assert (lines["odd", "score"].better, lines["odd", "score"].best) == (None, [])
    assert (lines["late", "acc"].results[0], lines["late", "acc"].best) == (None, [])
    (same,) = [e for e in at_step if e.task == "arc"]
    assert [r.value if r else None for r in same.results] == [0.25, 0.5]


def test_directions_are_known_for_standard_metrics_alone() -> None:
    assert (
        better_direction("acc_norm,none") == better_direction("exact_match") == better_direction("pass@10") == "higher"
    )
    assert better_direction("bits_per_byte") == better_direction("Loss") == "lower"
    assert better_direction("score") is None
    assert better_direction("accident") is None


def test_checkpoints_are_compared_by_their_files(runs: Engine) -> None:
    with open_session(runs) as session:
        found = compared(session, "lab/small@5", "lab/small@ckpt_002", "lab/small@7")
    assert [(s.step, s.label) for s in found.subjects] == [(5, "ckpt_001"), (10, "ckpt_002"), (7, None)]
    files = {f.name: f for f in found.files}
    assert files["model.safetensors"].sizes == [1005, 1010, None]
    assert files["model.safetensors"].verdict == "different"
    assert row(found.facts, "tokens read by then").values == ["320", "640", "448"]
    assert row(found.facts, "checkpoint").values == ["ckpt_001", "ckpt_002", "none at this step"]


def test_equal_bytes_are_equal_whatever_they_are_called(engine: Engine, settings: Settings) -> None:
    checkpoints = [
        {"step": 10, "files": [{"path": "a/model.bin", "size": 3, "sha256": "a" * 64}, {"path": "a/x", "size": 1}]},
        {"step": 20, "files": [{"path": "b/model.bin", "size": 3, "sha256": "a" * 64}, {"path": "b/x", "size": 1}]},
        {"step": 30, "files": [{"path": "c/x", "size": 2}]},
    ]
    record(engine, settings, {"run": "lab/same", "checkpoints": checkpoints})
    with open_session(engine) as session:
        verdicts = {f.name: f.verdict for f in compared(session, "lab/same@10", "lab/same@20").files}
        assert verdicts == {"model.bin": "equal", "x": "unknown"}
        verdicts = {f.name: f.verdict for f in compared(session, "lab/same@10", "lab/same@30").files}
        assert verdicts == {"model.bin": "missing", "x": "different"}


def test_what_is_drawn_is_each_runs_own_series_of_that_meaning(runs: Engine) -> None:
    with open_session(runs) as session:
        found = compared(session, "lab/small", "lab/other")
        named = compared(session, "lab/small", "lab/other", series=["lr", "nope"])
    loss = found.panels[0]
    assert (loss.name, loss.series, loss.units) == ("loss", ["train/loss", "loss"], ["nats", "bits"])
    assert [p.series for p in named.panels] == [["lr", None], [None, None]]
    assert found.shared == []


def test_the_loss_of_another_seed_is_nobodys_loss(engine: Engine, settings: Settings) -> None:
    for run, name in (("a", "seed2/train/lm_loss"), ("b", "train/CrossEntropyLoss")):
        series = [series_data(name, [1, 2], [2.0, 1.0]), series_data("optim/total_grad_norm", [1, 2], [2.0, 1.0])]
        record(engine, settings, {"run": f"lab/{run}"}, None, series)
    with open_session(engine) as session:
        panels = compared(session, "lab/a", "lab/b").panels
    assert [p.series for p in panels] == [[None, "train/CrossEntropyLoss"], ["optim/total_grad_norm"] * 2]


def test_two_to_eight_that_exist(runs: Engine) -> None:
    with open_session(runs) as session:
        for names in (["lab/small"], ["lab/small"] * 9):
            with pytest.raises(BadRequest, match="named"):
                compared(session, *names)
        with pytest.raises(RunNotFound):
            find_subject(session, "lab/smal")
        with pytest.raises(StepNotRecorded):
            find_subject(session, "lab/small@21")
        for place in ("nope", "", "-1", "1" * 40, "\u00b2"):
            with pytest.raises(CheckpointNotFound):
                find_subject(session, f"lab/small@{place}")


def test_the_queries_do_not_grow_with_what_runs_hold(engine: Engine, settings: Settings) -> None:
    counts = []
    for size in (3, 200):
        for name in ("a", "b"):
            many_checkpoints(engine, settings, f"lab/{name}{size}", size)
        with open_session(engine) as session, counted(engine) as queries:
            compared(session, f"lab/a{size}@10", f"lab/b{size}@20")
        counts.append(len(queries))
    assert counts[0] == counts[1]
