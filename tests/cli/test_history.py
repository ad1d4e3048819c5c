"""`portal audit` and `portal withdraw`: what was done is listed, signed and checked; what is withdrawn says why."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from portal.catalog.jobs.rules import JobRules
from portal.database import create_database_engine
from portal.settings import Settings
from tests.builders import SmallRun
from tests.cli.conftest import Portal
from tests.jobs.enqueued import put


def test_the_history_is_listed_signed_and_checked(
    portal: Portal, data: Path, small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert portal("keygen", tmp_path / "portal.key").code == 0
    monkeypatch.setenv("PORTAL_SIGNING_KEY", str(tmp_path / "portal.key"))
    assert portal("token", "create", "--role", "reader", "--name", "ada").code == 0
    listed = portal("audit", "list", "--json").json
    assert [(e["actor"], e["action"], e["object"]) for e in listed[:2]] == [
        ("operator", "token.created", "token:ada"),
        ("operator", "release.published", "release:lab/small@1"),
    ]
    assert portal("audit", "list", "--run", "lab/small", "--limit", 1).code == 0
    head = portal("audit", "head", "--json")
    assert head.json["hash"] == listed[0]["hash"]
    kept = tmp_path / "HEAD.json"
    kept.write_text(head.out)
    told = ("audit", "verify", "--against", kept, "--key", tmp_path / "portal.key.pub")
    assert portal(*told).code == 0
    assert portal("audit", "sign").code == 0
    good = portal("audit", "verify", "--json")
    assert (good.code, good.json["broken"], good.json["entries"]) == (0, None, len(listed))
    with sqlite3.connect(data / "portal.sqlite3") as cheat:
        for name in ("no_update", "no_delete"):
            cheat.execute(f"DROP TRIGGER audit_entry_{name}")
        cheat.execute("UPDATE audit_entry SET actor = 'eve' WHERE seq = 1")
    cheat.close()
    broken = portal("audit", "verify")
    assert broken.code == 1
    assert "broken at entry 1. Entry 1 was altered" in broken.err
    assert portal(*told).code == 1


def test_a_run_is_withdrawn_with_a_reason_and_purged(portal: Portal, data: Path, small: SmallRun) -> None:
    engine = create_database_engine(Settings(data=data))
    job = put(engine, JobRules(), base={"run": "lab/small", "version": 1, "step": 300, "files": []})
    engine.dispose()
    without = portal("withdraw", "lab/small")
    assert without.code == 2
    assert "--reason" in without.err
    done = portal("withdraw", "lab/small", "--reason", "Wrong weights.")
    assert done.code == 0, done.err
    assert "version 1 of lab/small: Wrong weights." in done.out
    assert f"ended with the reason: 1 job ({job})." in done.out
    gone = portal("at", "lab/small", 5)
    assert gone.code == 1
    assert "withdrawn" in gone.err
    assert "Wrong weights." in gone.err
    assert "done before" in portal("withdraw", "lab/small", "--reason", "Again.").out
    purged = portal("withdraw", "lab/small", "--purge", "--json").json
    assert (purged["purged"], purged["removed_bytes"]) == ([1], 0), "its files lie where they were published"
    assert portal("withdraw", "lab/nothing", "--reason", "Wrong.").code == 1
    actions = [e["action"] for e in portal("audit", "list", "--json").json]
    assert actions[:3] == ["run.purged", "job.cancelled", "run.withdrawn"]
    assert json.dumps(actions)
