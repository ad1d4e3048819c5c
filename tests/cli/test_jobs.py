"""``portal submit``, ``jobs``, ``logs`` and ``cancel`` on the local catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from portal.catalog.jobs.attempts import AttemptKey, Completion, end
from portal.catalog.jobs.rules import JobRules
from portal.catalog.jobs.told import append_log
from portal.database import create_database_engine
from portal.settings import Settings
from tests.cli.conftest import Portal
from tests.jobs.enqueued import taken, worker
from tests.jobs.tiny_run import tiny_run


@pytest.fixture
def engine(data: Path, sqlite_settings: Settings, tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(sqlite_settings)
    tiny_run(engine, sqlite_settings, tmp_path / "tiny")
    yield engine
    engine.dispose()


def test_a_job_from_the_terminal(portal: Portal, engine: Engine) -> None:
    shown = portal("submit", "lab/tiny", 10, "--data", "code=2.0,facts=0", "--dry-run")
    assert shown.code == 0, shown.err
    assert "main.yaml: training.clip" in shown.out
    assert "as it lies there" in shown.out
    assert portal("jobs").out.startswith("job")
    made = portal("submit", "lab/tiny", 10, "--set", "lr=0.02", "--steps", 3, "--label", "site=a", "--json")
    assert made.code == 0, made.err
    assert made.json["spec"]["changes"] == [{"key": "schedule.peak", "from": 0.01, "to": 0.02}]
    listed = portal("jobs", "--json").json
    assert [(j["id"], j["state"], j["labels"]) for j in listed] == [(1, "queued", {"site": "a"})]
    assert "queued" in portal("jobs", "--state", "queued").out
    assert portal("cancel", 1).out.startswith("Job 1 is cancelled.")
    again = portal("cancel", 1)
    assert again.code == 0
    refused = portal("submit", "lab/tiny", 10, "--set", "lr=fast", "--set", "nope=1")
    assert refused.code == 1
    assert "lr" in refused.err
    assert "nope" in refused.err
    assert portal("submit", "lab/tiny", 11).code == 1
    assert portal("submit", "lab/tiny", 10, "--set", "lr").code == 2
    assert portal("logs", 99).code == 1


def test_a_log_is_shown_and_never_obeyed(portal: Portal, engine: Engine) -> None:
    assert portal("submit", "lab/tiny", 10, "--steps", 3).code == 0
    rules = JobRules()
    lease = taken(engine, rules, worker(engine, rules))
    key = AttemptKey(lease.job, lease.attempt, lease.fence)
    text = "step 11 \x1b[2J ünï\r\n" + "x" * 100_000 + "\nlast"
    append_log(engine, key, 0, text.encode(), rules)
    end(engine, key, "failed", Completion("failed", 65, False, "Other bytes.", {}, None, "d"), rules)
    said = portal("logs", 1)
    assert said.out == "step 11 \\x1b[2J ünï\n" + "x" * 100_000 + "\nlast"
    watched = portal("logs", 1, "-f")
    assert (watched.code, watched.out) == (1, said.out)
    assert "[failed] Other bytes." in watched.err
    assert json.loads(portal("jobs", "--json").out)[0]["state"] == "failed"
