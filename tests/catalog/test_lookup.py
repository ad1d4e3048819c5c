"""Search: what a query can mean, what it finds in one run and among all, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.answers import FoundFinding, SearchAnswer, SearchHit
from portal.catalog.lookup import COUNTED, only_exact, search
from portal.catalog.release import load_facts
from portal.catalog.wishes import read_wish, split_run
from portal.database import create_database_engine, open_session
from portal.errors import BadRequest, RunNotFound
from portal.settings import Settings
from tests.builders import SmallRun, many_checkpoints, record, series_data, small_run
from tests.catalog.queries import counted

CONFIG = {"values": {"optimizer": {"lr": 0.001, "betas": [0.9, 0.95]}, "warmup_steps": 10}, "first_step": 1}


@pytest.fixture
def catalog(engine: Engine, settings: Settings, tmp_path: Path) -> SmallRun:
    small = small_run(engine, settings, tmp_path / "release")
    later = {"values": {"optimizer": {"lr": 0.0005}}, "first_step": 50}
    finding = FoundFinding("equal-weights", "error", "Steps 10 and 20 hold the same 100% bytes.", 20)
    document = {"run": "other/model_x", "title": "Another model", "configs": [CONFIG, later]}
    record(engine, settings, document, None, [series_data("train/loss", [1, 2], [2.0, 1.0])], [finding])
    return small


@pytest.fixture
def session(engine: Engine, catalog: SmallRun) -> Iterator[Session]:
    with open_session(engine) as session:
        yield session


def hits(answer: SearchAnswer, kind: str) -> list[SearchHit]:
    return [hit for group in answer.groups if group.kind == kind for hit in group.hits]


@pytest.mark.parametrize(
    ("query", "step", "tokens"),
    [
        ("12000", 12000, None),
        (" 12,000 ", 12000, None),
        ("step 12 000", 12000, None),
        ("step-7", 7, None),
        ("Step=7", 7, None),
        ("300B tokens", None, 300_000_000_000),
        ("1.26T", None, 1_260_000_000_000),
        ("640 tokens", None, 640),
        ("1,280 tok", None, 1280),
        ("12.5", None, None),
        ("1e5", None, None),
        ("step", None, None),
        ("1" * 17, None, None),
    ],
)
def test_numbers_are_read_as_they_are_meant(query: str, step: int | None, tokens: int | None) -> None:
    wish = read_wish(query)
    assert (wish.step, wish.tokens) == (step, tokens)


def test_hashes_events_quotes_and_runs_are_recognised() -> None:
    assert read_wish("sha256:ABCDEF12").sha256 == "abcdef12"
    assert read_wish("abcdef1").sha256 is None
    assert read_wish("NaN").events == ("nan_loss",)
    assert read_wish("restarts").events == ("restart",)
    assert read_wish("chunk skipped").events == ("chunk_skipped",)
    assert read_wish("na").events == ()
    assert read_wish('"to be or not"').quoted
    assert read_wish('"to be or not"').text == "to be or not"
    assert split_run("lab/small 7") == split_run("lab/small@7") == ("lab/small", "7")
    assert split_run("lab/small") is None


def test_a_step_of_a_run_says_what_lies_there(session: Session) -> None:
    answer = search(session, "10", "lab/small")
    (step,) = hits(answer, "step")
    assert (step.name, step.step, step.exact) == ("step 10", 10, True)
    assert "640 tokens" in step.detail
    assert "ckpt_002" in step.detail
    assert only_exact(answer) == step
    assert search(session, "lab/small 10") == SearchAnswer("lab/small 10", "lab/small", answer.groups, [])
    assert only_exact(search(session, "640 tokens", "lab/small")) == step
    assert [h.step for h in hits(search(session, "641 tokens", "lab/small"), "step")] == [11]


def test_a_step_outside_the_run_is_explained(session: Session) -> None:
    assert search(session, "21", "lab/small").notes == ["lab/small has steps 0 to 20."]
    assert search(session, "9B tokens", "lab/small").notes == ["lab/small read 1,280 tokens in all."]
    assert "not recorded" in search(session, "5 tokens", "other/model_x").notes[0]
    assert "A step belongs to a run" in search(session, "12000").notes[0]


@pytest.mark.parametrize("run", [None, "lab/small"])
def test_labels_chunks_series_events_and_hashes_are_found(session: Session, run: str | None) -> None:
    (label,) = hits(search(session, "ckpt_002", run), "checkpoint")
    assert (label.run, label.name, label.key, label.exact) == ("lab/small", "ckpt_002", "10", True)
    assert len(hits(search(session, "ckpt_", run), "checkpoint")) == 5
    assert [h.key for h in hits(search(session, "chunk_1", run), "chunk")] == ["chunk_1"]
    assert "train/loss" in [h.name for h in hits(search(session, "loss", run), "series")]
    assert [h.step for h in hits(search(session, "nan", run), "event")] == [7]
    file = load_facts(session, "lab/small").tokenizer
    assert file is not None
    assert file.sha256 is not None
    for text in (file.sha256[:8].upper(), f"sha256:{file.sha256}"):
        answer = search(session, text, run)
        assert [h.name for h in hits(answer, "file")] == ["tokenizer.json"]
        assert only_exact(answer) == hits(answer, "file")[0]


def test_configs_show_their_values(session: Session) -> None:
    (everywhere,) = hits(search(session, "optimizer.lr"), "config")
    assert (everywhere.run, everywhere.detail) == ("other/model_x", "0.001 from step 1")
    (inside,) = hits(search(session, "lr", "other/model_x"), "config")
    assert (inside.name, inside.detail) == ("optimizer.lr", "0.001 from step 1; 0.0005 from step 50")
    assert not hits(search(session, "0.001"), "config"), "values are no names"


def test_findings_are_found_by_code_and_words(session: Session) -> None:
    for query, run in (("equal-weights", None), ("same 100%", None), ("EQUAL", "other/model_x")):
        (found,) = hits(search(session, query, run), "finding")
        assert (found.run, found.step) == ("other/model_x", 20)


@pytest.mark.parametrize(
    "query", ["%", "_", "\\", "ckpt%", "c_p", "'; drop table run; --", "[a-z]", "*", "lab/", "\u202e"]
)
def test_special_characters_are_only_themselves(session: Session, query: str) -> None:
    for run in (None, "lab/small"):
        found = [hit for group in search(session, query, run).groups for hit in group.hits]
        assert all(query.lower() in (hit.name + hit.detail).lower() for hit in found)
    if query == "_":
        assert [h.run for h in hits(search(session, query), "run")] == ["other/model_x"]


def test_long_empty_and_quoted_queries_are_answered(session: Session) -> None:
    assert search(session, "   ") == SearchAnswer("   ", None, [], [])
    long = search(session, "x" * 10_000)
    assert "10,000 characters" in long.notes[0]
    assert not long.groups
    quoted = search(session, '"ckpt_002"')
    assert "not built yet" in quoted.notes[0]
    assert hits(quoted, "checkpoint")
    with pytest.raises(BadRequest, match="NUL"):
        search(session, "a\0b")
    with pytest.raises(RunNotFound):
        search(session, "loss", "lab/smal")


def test_what_is_left_out_is_counted(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/many", COUNTED + 50)
    with open_session(engine) as session:
        for run in (None, "lab/many"):
            (group,) = [g for g in search(session, "c_", run, 5).groups if g.kind == "checkpoint"]
            assert (len(group.hits), group.found, group.complete) == (5, COUNTED, False)
            (group,) = [g for g in search(session, "c_11", run, 5).groups if g.kind == "checkpoint"]
            assert (len(group.hits), group.found, group.complete) == (5, 11, True)
            exact = search(session, "c_249", run, 5)
            assert [h.name for h in hits(exact, "checkpoint") if h.exact] == ["c_249"]


def test_an_earlier_version_is_not_searched(engine: Engine, settings: Settings) -> None:
    many_checkpoints(engine, settings, "lab/many", 5)
    many_checkpoints(engine, settings, "lab/many", 3)
    with open_session(engine) as session:
        assert len(hits(search(session, "c_"), "checkpoint")) == 3


def test_the_number_of_queries_is_the_same_whatever_there_is(engine: Engine, settings: Settings) -> None:
    counts = []
    for start, end in ((0, 3), (3, 50)):
        for k in range(start, end):
            many_checkpoints(engine, settings, f"lab/r{k:02d}", 3)
        for query in ("c_1", "10", "abcdef12", "nan"):
            with open_session(engine) as session, counted(engine) as queries:
                search(session, query)
            counts.append(len(queries))
    assert counts[:4] == counts[4:]
    assert max(counts) <= 9


def test_the_index_leads_to_labels_and_chunks(sqlite_settings: Settings) -> None:
    engine = create_database_engine(sqlite_settings)
    many_checkpoints(engine, sqlite_settings, "lab/many", 20)
    with open_session(engine) as session, counted(engine) as queries:
        search(session, "abcdef12")
    plans = []
    with engine.connect() as connection:
        for query in queries:
            if "checkpoint_label" in query or "FROM chunk" in query or "FROM file" in query:
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", (*["x"] * query.count("?"),))
                plans.append(" ".join(str(row[3]) for row in rows))
    assert len(plans) == 3
    assert all("SCAN checkpoint_label" not in p and "SCAN chunk" not in p and "SCAN file" not in p for p in plans)
    engine.dispose()
