"""Row plans: the run's own rows, chosen chunks, re-weighted sources; the same bytes for the same request."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog import batches
from portal.catalog.batches import read_rows
from portal.catalog.release import load_facts
from portal.database import create_database_engine
from portal.errors import BadRequest, ChunkNotFound, OrderUnknown
from portal.jobs import plans
from portal.jobs.plans import Interval, Plan, plan_chunks, plan_mix, plan_original
from portal.jobs.requests import JobRequest
from portal.jobs.specs import draft_job
from portal.settings import Settings
from tests.jobs.tiny_run import ROWS_PER_STEP, tiny_run

WHOLE = Interval(11, 30, ROWS_PER_STEP)


@pytest.fixture
def sqlite_engine(sqlite_settings: Settings) -> Any:
    engine = create_database_engine(sqlite_settings)
    yield engine
    engine.dispose()


@pytest.fixture
def facts(sqlite_engine: Engine, sqlite_settings: Settings, tmp_path: Path) -> Any:
    tiny_run(sqlite_engine, sqlite_settings, tmp_path / "tiny")
    with Session(sqlite_engine) as session:
        yield session, load_facts(session, "lab/tiny")


def read(plan: Plan) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(plan.write())).to_pylist()
    return rows


def test_the_original_plan_names_the_rows_the_portal_shows(facts: Any, sqlite_settings: Settings) -> None:
    session, known = facts
    plan = plan_original(session, sqlite_settings, known, WHOLE)
    rows = read(plan)
    assert len(rows) == 80
    for step in (11, 19, 30):
        shown = [(ref.chunk, ref.row) for ref, _ in read_rows(session, sqlite_settings, "lab/tiny", step).rows]
        assert [(r["chunk"], r["row"]) for r in rows if r["step"] == step] == shown
    assert [r["position"] for r in rows] == list(range(ROWS_PER_STEP)) * 20
    assert plan.confidence == "exact"
    assert {r["source"] for r in rows if r["chunk"] == "b"} == {"stories"}
    assert {r["source"] for r in rows if r["chunk"] == "a"} == {None}


def test_steps_whose_rows_nobody_knows_are_refused(facts: Any, sqlite_settings: Settings) -> None:
    session, known = facts
    with pytest.raises(OrderUnknown, match="not released"):
        plan_original(session, sqlite_settings, known, Interval(25, 31, ROWS_PER_STEP))


def test_chunks_are_shuffled_by_their_seed_and_end(facts: Any) -> None:
    _session, known = facts
    once = plan_chunks(known, Interval(11, 55, 4), ["b", "a"], 17, True, False)
    assert once.write() == plan_chunks(known, Interval(11, 55, 4), ["b", "a"], 17, True, False).write()
    assert once.write() != plan_chunks(known, Interval(11, 55, 4), ["b", "a"], 18, True, False).write()
    assert len({(r["chunk"], r["row"]) for r in read(once)}) == 180
    straight = plan_chunks(known, Interval(1, 20, 4), ["b", "a"], 17, False, False)
    assert [(r["chunk"], r["row"]) for r in read(straight)][58:62] == [("b", 58), ("b", 59), ("a", 0), ("a", 1)]
    with pytest.raises(BadRequest, match=r"180.*184|184.*180") as refused:
        plan_chunks(known, Interval(11, 56, 4), ["b", "a"], 17, True, False)
    assert refused.value.extra["most_steps"] == 45
    again = plan_chunks(known, Interval(11, 100, 4), ["a", "b"], 17, True, True)
    assert Counter(Counter((r["chunk"], r["row"]) for r in read(again)).values()) == {2: 180}


def test_a_mix_meets_its_shares(facts: Any, sqlite_settings: Settings) -> None:
    session, known = facts
    natural = plan_mix(session, sqlite_settings, known, Interval(1, 45, 4), ["a", "b"], {}, 17)
    assert natural.rows_by_source() == {"stories": 100, "code": 40, "facts": 40}
    counts = natural.rows_by_source()
    doubled = plan_mix(session, sqlite_settings, known, Interval(1, 45, 4), ["a", "b"], {"code": 2.0, "facts": 0}, 17)
    found = doubled.rows_by_source()
    total = counts["stories"] + 2 * counts["code"]
    assert "facts" not in found
    assert abs(found["code"] - 180 * 2 * counts["code"] / total) <= 1
    assert sum(found.values()) == 180
    repeats = Counter((r["chunk"], r["row"]) for r in read(doubled) if r["source"] == "code")
    assert max(repeats.values()) - min(repeats.values()) <= 1
    assert (
        doubled.write()
        == plan_mix(
            session, sqlite_settings, known, Interval(1, 45, 4), ["a", "b"], {"code": 2.0, "facts": 0}, 17
        ).write()
    )
    steps = np.array([r["step"] for r in read(doubled) if r["source"] == "code"])
    assert len(np.unique(steps)) > 20, "a source is spread over the steps"


@pytest.mark.parametrize("data", [{}, {"kind": "chunks", "chunks": ["a"]}, {"kind": "mix", "weights": {"code": 2.0}}])
def test_no_connection_is_held_while_a_plan_is_made(
    facts: Any, sqlite_engine: Engine, sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch, data: dict[str, Any]
) -> None:
    session, _ = facts
    held: dict[str, set[int]] = {}
    slow = [
        (batches, "open_order_file"),
        (batches, "locate_rows"),
        (batches, "_with_source"),
        (plans, "_passes"),
        (Plan, "write"),
    ]

    def watch(place: Any, name: str) -> None:
        real = getattr(place, name)

        def watched(*asked: Any, **named: Any) -> Any:
            held.setdefault(name, set()).add(sqlite_engine.pool.checkedout())  # type: ignore[attr-defined]
            return real(*asked, **named)

        monkeypatch.setattr(place, name, watched)

    for place, name in slow:
        watch(place, name)
    draft = draft_job(session, sqlite_settings, JobRequest(run="lab/tiny", step=10, steps=5, data=data))
    assert draft.plan is not None
    assert (
        set(held)
        == {"write"}
        | {
            "original": {"open_order_file", "locate_rows"},
            "chunks": {"_passes"},
            "mix": {"_passes", "_with_source"},
        }[draft.plan.kind]
    )
    assert set.union(*held.values()) == {0}


def test_what_cannot_be_planned(facts: Any, sqlite_settings: Settings) -> None:
    session, known = facts
    with pytest.raises(ChunkNotFound, match="nope"):
        plan_chunks(known, WHOLE, ["a", "nope"], 1, True, False)
    with pytest.raises(BadRequest, match="twice"):
        plan_chunks(known, WHOLE, ["a", "a"], 1, True, False)
    with pytest.raises(BadRequest, match="No chunk"):
        plan_chunks(known, WHOLE, [], 1, True, False)
    with pytest.raises(BadRequest, match="wikipedia"):
        plan_mix(session, sqlite_settings, known, WHOLE, ["a"], {"wikipedia": 2.0}, 1)
    with pytest.raises(BadRequest, match="leave no row"):
        plan_mix(session, sqlite_settings, known, WHOLE, ["b"], {"stories": 0.0}, 1)
