"""Findings, events, configs and measures: narrowed, grouped, set against each other."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, insert

from portal.catalog.answers import FoundFinding
from portal.catalog.configs import get_config_table
from portal.catalog.evaluations import better_way, list_measures
from portal.catalog.findings import FindingFilter, count_events, group_findings, list_events, list_findings
from portal.database import open_session
from portal.models import Evaluation
from portal.settings import Settings
from tests.builders import record
from tests.catalog.queries import counted

FOUND = [
    FoundFinding("gap", "warning", "A step is missing.", 30),
    *(FoundFinding("equal-weights", "error", f"Equal at {k}.", 1000 - k, {"k": k}, str(k)) for k in range(400)),
    FoundFinding("whole", "error", "The run."),
    FoundFinding("note", "info", "A note.", 1),
]


def test_errors_come_first_then_steps(engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/f", "training": {"last_step": 2000}}, findings=FOUND)
    with open_session(engine) as session:
        page = list_findings(session, "lab/f", 1000)
        steps = [(f.severity, f.step) for f in page.items]
        assert steps[:2] == [("error", 601), ("error", 602)]
        assert steps[400:] == [("error", None), ("warning", 30), ("info", 1)]
        only = list_findings(session, "lab/f", wanted=FindingFilter(code="equal-weights", step=700))
        assert [f.message for f in only.items] == ["Equal at 300."]
        assert list_findings(session, "lab/f", wanted=FindingFilter(severity="warning")).total == 1
        assert list_findings(session, "lab/f", wanted=FindingFilter(state="fixed")).total == 0


def test_hundreds_of_one_kind_are_one_group(engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/f", "training": {"last_step": 2000}}, findings=FOUND)
    with open_session(engine) as session:
        groups = group_findings(session, "lab/f")
        with counted(engine) as seen:
            group_findings(session, "lab/f")
    assert [(g.code, g.count, g.first_step, g.last_step, len(g.first)) for g in groups] == [
        ("equal-weights", 400, 601, 1000, 3),
        ("whole", 1, None, None, 1),
        ("gap", 1, 30, 30, 1),
        ("note", 1, 1, 1, 1),
    ]
    assert len(seen) <= 1


def test_ten_thousand_events_are_paged_by_kind(engine: Engine, settings: Settings) -> None:
    events = [{"step": k, "kind": "spike" if k % 10 else "restart"} for k in range(1, 10_001)]
    record(engine, settings, {"run": "lab/e", "training": {"last_step": 10_000}, "events": events})
    with open_session(engine) as session:
        assert count_events(session, "lab/e") == {"spike": 9000, "restart": 1000}
        page = list_events(session, "lab/e", 300, kind="restart")
        assert ([e.step for e in page.items[:2]], page.total) == ([10, 20], 1000)
        rest = list_events(session, "lab/e", 1000, page.next, kind="restart")
        assert (rest.items[0].step, rest.next) == (3010, None)


def test_configs_stand_beside_each_other(engine: Engine, settings: Settings) -> None:
    configs = [
        {"values": {"optimizer": {"lr": 0.1, "eps": 1e-8}, "tags": ["a"]}, "first_step": 1, "last_step": 9},
        {"values": {"optimizer": {"lr": 0.2, "eps": 1e-8}, "tags": ["a"], "Extra": None}, "first_step": 10},
    ]
    record(engine, settings, {"run": "lab/c", "configs": configs})
    with open_session(engine) as session:
        table = get_config_table(session, "lab/c")
        assert [(r.key, r.differs) for r in table.rows] == [
            ("optimizer.lr", True), ("optimizer.eps", False), ("tags", False), ("Extra", True),
        ]  # fmt: skip
        assert table.columns == [(1, 9), (10, None)]
        assert [r.key for r in get_config_table(session, "lab/c", "EPS").rows] == ["optimizer.eps"]
        assert [r.key for r in get_config_table(session, "lab/c", differing=True).rows] == ["optimizer.lr", "Extra"]
        assert [r.key for r in get_config_table(session, "lab/c", "0.2").rows] == ["optimizer.lr"]


@pytest.mark.parametrize(
    ("metric", "way"),
    [("acc_norm", "higher"), ("acc,none", "higher"), ("word_perplexity", "lower"), ("made_up", None)],
)
def test_which_way_is_better(metric: str, way: str | None) -> None:
    assert better_way(metric) == way


def test_measures_know_their_best(engine: Engine, settings: Settings) -> None:
    release = record(engine, settings, {"run": "lab/m"})
    common = {"release_id": release, "suite": "", "by": "authors", "source": "e.json", "task": "t"}
    rows = [
        common | {"step": step, "metric": metric, "value": value}
        for metric in ("acc", "ppl", "odd")
        for step, value in ((1, 0.5), (2, 0.75), (3, None))
    ]
    with open_session(engine) as session:
        session.connection().execute(insert(Evaluation.__table__), rows)
        session.commit()
        best = {m.metric: (m.best, m.lowest, m.highest, m.results) for m in list_measures(session, "lab/m")}
    assert best == {"acc": (0.75, 0.5, 0.75, 3), "ppl": (0.5, 0.5, 0.75, 3), "odd": (None, 0.5, 0.75, 3)}
