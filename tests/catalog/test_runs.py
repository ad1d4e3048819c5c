"""Runs, their counts and what of them is open."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.answers import FoundFinding
from portal.catalog.lineage import get_lineage
from portal.catalog.runs import get_run, get_timeline, list_runs
from portal.catalog.steps import get_step
from portal.database import open_session
from portal.errors import BadRequest, RunNotFound, StepNotRecorded
from portal.settings import Settings
from tests.builders import SmallRun, many_checkpoints, record, small_run
from tests.catalog.queries import counted


def test_a_run_says_what_it_holds(session: Session, small: SmallRun) -> None:
    run = get_run(session, small.run)
    summary = run.summary
    assert (summary.checkpoints, summary.checkpoints_expected, summary.chunks, summary.series) == (5, 5, 2, 2)
    assert (summary.tokens, summary.last_step, summary.order_confidence) == (1280, 20, "exact")
    assert set(summary.openness) == {"code", "config", "data", "order", "checkpoints", "optimizer", "metrics"}
    assert all(summary.openness.values())
    assert [s.name for s in run.stages] == ["warmup", "main"]
    assert run.tokenizer == "tokenizer.json"


def test_sizes_that_nobody_told_are_counted(engine: Engine, settings: Settings) -> None:
    remote = [{"path": f"hf://lab/model/{k}.safetensors", "role": "weights"} for k in range(3)]
    remote[0]["size"] = 1000
    record(engine, settings, {"run": "lab/far", "checkpoints": [{"step": 5, "files": remote}]})
    with open_session(engine) as session:
        run = get_run(session, "lab/far")
    assert (run.summary.files, run.summary.total_bytes, run.unknown_sizes) == (3, 1000, 2)


def test_openness_is_counted_and_not_claimed(engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/closed", "links": {"paper": "https://example.org"}})
    with open_session(engine) as session:
        assert not any(get_run(session, "lab/closed").summary.openness.values())


def test_steps_without_an_order_make_the_whole_run_unknown(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    data = {
        "chunks": [{"name": "c", "files": [{"path": "c.jsonl"}], "format": "jsonl", "rows": 80}],
        "order": [{"first_step": 1, "last_step": 19, "chunks": ["c"], "kind": "sequential"}],
    }
    small_run(engine, settings, tmp_path / "gap", data=data)
    with open_session(engine) as session:
        summary = get_run(session, "lab/small").summary
    assert summary.order_confidence == "unknown"
    assert not summary.openness["order"]


def test_the_weakest_confidence_counts(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    chunk = {"files": [{"path": "c.jsonl"}], "format": "jsonl", "rows": 80}
    order = {"first_step": 1, "last_step": 10, "chunks": ["a"], "kind": "sequential"}
    drawn = {"first_step": 11, "last_step": 20, "chunks": ["b"], "kind": "permutation", "rng": "numpy-PCG64", "seed": 1}
    data = {"chunks": [chunk | {"name": "a"}, chunk | {"name": "b"}], "order": [order, drawn]}
    small_run(engine, settings, tmp_path / "mixed", data=data)
    with open_session(engine) as session:
        assert get_run(session, "lab/small").summary.order_confidence == "reconstructed"


def test_checkpoints_off_the_cadence_do_not_hide_missing_ones(engine: Engine, settings: Settings) -> None:
    checkpoints = [{"steps": {"values": [0, 1, 2, 10, 20, 40, 50]}}, {"step": 60, "missing": True}]
    document = {"run": "lab/gaps", "cadence": 10, "training": {"last_step": 60}, "checkpoints": checkpoints}
    record(engine, settings, document)
    with open_session(engine) as session:
        summary = get_run(session, "lab/gaps").summary
    assert (summary.checkpoints, summary.checkpoints_expected) == (7, 9)


def test_an_unknown_run_names_close_matches(session: Session, small: SmallRun) -> None:
    with pytest.raises(RunNotFound) as refused:
        get_run(session, "lab/smal")
    assert refused.value.extra["nearest"] == ["lab/small"]
    with pytest.raises(RunNotFound) as refused:
        get_run(session, "other/small")
    assert refused.value.extra["nearest"] == ["lab/small"]


@pytest.mark.parametrize("name", ["x", "", "/", "a/b/c", "lab/" + "x" * 5000, "'; drop table run; --/x"])
def test_any_text_is_a_run_that_does_not_exist(session: Session, small: SmallRun, name: str) -> None:
    with pytest.raises(RunNotFound):
        get_run(session, name)


def test_a_name_with_nul_is_refused_on_every_database(session: Session, small: SmallRun) -> None:
    with pytest.raises(BadRequest, match="NUL"):
        get_run(session, "lab/\0")
    with pytest.raises(BadRequest, match="NUL"):
        list_runs(session, cursor="lab/\0")


def test_runs_are_listed_in_pages_without_gaps(engine: Engine, settings: Settings) -> None:
    names = [f"{org}/{name}" for org in ("a", "b") for name in ("x", "y", "z")]
    for name in names:
        record(engine, settings, {"run": name})
    with open_session(engine) as session:
        seen: list[str] = []
        cursor = None
        while True:
            page = list_runs(session, limit=4, cursor=cursor)
            assert page.total == 6
            seen += [r.run for r in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert seen == names
        with pytest.raises(BadRequest):
            list_runs(session, limit=0)
        with pytest.raises(BadRequest):
            list_runs(session, cursor="nonsense")


def test_the_number_of_queries_does_not_grow_with_runs(engine: Engine, settings: Settings) -> None:
    counts = []
    for start, end in ((0, 10), (10, 25)):
        for k in range(start, end):
            many_checkpoints(engine, settings, f"lab/r{k:02d}", 3)
        with open_session(engine) as session, counted(engine) as queries:
            assert len(list_runs(session).items) == end
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_number_of_queries_does_not_grow_with_checkpoints(engine: Engine, settings: Settings) -> None:
    counts = []
    for count in (10, 25):
        many_checkpoints(engine, settings, f"lab/c{count}", count)
        with open_session(engine) as session, counted(engine) as queries:
            assert len(get_timeline(session, f"lab/c{count}").checkpoints) == count
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_a_timeline_has_every_lane(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    small_run(engine, settings, tmp_path / "lanes", run="lab/lanes")
    with open_session(engine) as session:
        timeline = get_timeline(session, "lab/lanes")
    assert [c.step for c in timeline.checkpoints] == [0, 5, 10, 15, 20]
    assert [(s.first_step, s.last_step) for c in timeline.chunks for s in c.spans] == [(1, 10), (11, 20)]
    assert [e.kind for e in timeline.events] == ["nan_loss", "spike", "note"]
    assert [(o.first_step, o.last_step, o.order.confidence) for o in timeline.orders] == [(1, 20, "exact")]


def test_findings_are_counted_by_severity(engine: Engine, settings: Settings) -> None:
    found = [
        FoundFinding("twin-weights", "error", "Equal bytes.", 10),
        FoundFinding("gap", "info", "Far apart.", 10, subject="x"),
    ]
    record(engine, settings, {"run": "lab/found", "checkpoints": [{"step": 10}]}, findings=found)
    with open_session(engine) as session:
        counts = get_run(session, "lab/found").summary.findings
        rows = get_timeline(session, "lab/found").checkpoints
    assert (counts.error, counts.warning, counts.info) == (1, 0, 1)
    assert rows[0].findings == 2


def test_lineage_goes_up_to_the_root_and_down_to_children(engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/child", "parent": {"run": "lab/parent", "step": 5}})
    record(engine, settings, {"run": "lab/grandchild", "parent": {"run": "lab/child", "step": 7}})
    with open_session(engine) as session:
        found = get_lineage(session, "lab/grandchild")
        assert found.parents == [
            {"run": "lab/child", "step": 7, "known": True, "withdrawn": False},
            {"run": "lab/parent", "step": 5, "known": False, "withdrawn": False},
        ]
        assert [c["run"] for c in get_lineage(session, "lab/child").children] == ["lab/grandchild"]


def test_parents_that_name_each_other_end_the_chain(engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/a", "parent": {"run": "lab/b", "step": 5}})
    record(engine, settings, {"run": "lab/b", "parent": {"run": "lab/a", "step": 7}})
    with open_session(engine) as session:
        assert [p["run"] for p in get_lineage(session, "lab/a").parents] == ["lab/b", "lab/a"]


def test_steps_and_tokens_that_nobody_published_are_unknown(engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/chat", "training": {"last_step": 0}, "checkpoints": [{"labels": ["main"]}]})
    with open_session(engine) as session:
        (listed,) = list_runs(session).items
        assert (listed.last_step, listed.tokens) == (None, None)
        assert get_run(session, "lab/chat").summary == listed
        assert get_timeline(session, "lab/chat").last_step is None
        with pytest.raises(StepNotRecorded, match="How many steps lab/chat took is not known"):
            get_step(session, settings, "lab/chat", 5)
