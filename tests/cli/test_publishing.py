"""`portal publish`, `portal import` and `portal releases`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from portal.settings import Settings
from tests.builders import MINIMAL
from tests.cli.conftest import Portal


def test_publish_then_read(portal: Portal, release: Path) -> None:
    plan = portal("publish", release, "--dry-run")
    assert plan.code == 0
    assert "Publish lab/fresh as version 1." in plan.out
    assert portal("at", "lab/fresh", 5).code == 1
    first = portal("publish", release)
    assert first.code == 0
    assert "version      1 (published)" in first.out
    assert "Hashing" in first.err
    assert portal("at", "lab/fresh", 5).code == 0
    again = portal("publish", release, "--json")
    assert (again.json["state"], again.json["version"]) == ("unchanged", 1)


def test_findings_are_printed(portal: Portal, release: Path) -> None:
    for step in (5, 10):
        (release / f"step{step}" / "model.safetensors").write_bytes(b"same" * 400)
    said = portal("publish", release)
    assert said.code == 0
    assert "step 5" in said.out or " 10 " in said.out
    assert "findings" in said.out


def test_every_fault_at_once(portal: Portal, data: Path, tmp_path: Path) -> None:
    checkpoints = [{"step": 1, "location": f"../out{k}", "labels": [k]} for k in range(50)]
    (tmp_path / "release.json").write_text(json.dumps(MINIMAL | {"checkpoints": checkpoints}))
    said = portal("publish", tmp_path)
    assert (said.code, said.out) == (1, "")
    lines = said.err.splitlines()
    assert "faults; nothing was published." in lines[0]
    assert len(lines) - 1 >= 50
    assert all(any(f"[{k}]" in line for line in lines) for k in range(50))
    assert portal("runs", "--json").json == []


@pytest.mark.parametrize("what", ["nowhere", "./nowhere", "/nowhere/release.yaml", "lab/nothing", ""])
def test_nothing_to_publish(portal: Portal, data: Path, what: str) -> None:
    said = portal("publish", what)
    assert (said.code, said.out) == (1, "")
    assert "nothing was published" in said.err


@pytest.mark.parametrize("name", ["pythia-70m", "EleutherAI/pythia-70m"])
def test_a_shipped_manifest_by_its_name(portal: Portal, data: Path, name: str) -> None:
    shipped = {r["name"]: r["run"] for r in portal("releases", "--json").json}
    said = portal("publish", shipped["pythia-70m"] if "/" in name else name, "--dry-run", "--json")
    assert (said.code, said.json["state"], said.json["run"]) == (0, "dry-run", shipped["pythia-70m"])


def test_releases(portal: Portal) -> None:
    said = portal("releases")
    assert said.code == 0
    assert "llm360/amber" in said.out.lower()
    assert portal("releases", "--show", "amber").out.startswith(("format:", "#"))
    unknown = portal("releases", "--show", "nothing")
    assert (unknown.code, unknown.out) == (1, "")
    assert "nothing" in unknown.err


def test_import_a_folder(portal: Portal, data: Path, release: Path, sqlite_settings: Settings) -> None:
    (release / "release.json").unlink()
    printed = portal("import", "folder", release, "--run", "lab/imported")
    assert printed.code == 0
    assert "run: lab/imported" in printed.out
    assert "findings" in printed.err
    assert portal("import", "folder", release, "--run", "lab/imported", "--json").json["path"] is None
    written = portal("import", "folder", release, "--run", "lab/imported", "--to", release)
    assert (written.code, written.out) == (0, "")
    assert (release / "release.yaml").is_file()
    assert portal("publish", release, "--dry-run").code == 0


@pytest.mark.parametrize(("layout", "source"), [("nonsense", "."), ("olmo", "nowhere"), ("folder", "nowhere")])
def test_imports_that_cannot_be(portal: Portal, data: Path, layout: str, source: str) -> None:
    said = portal("import", layout, source, "--run", "lab/x")
    assert (said.code, said.out) == (2, "")
    assert len(said.err.splitlines()) == 1
