"""The demo is published once, whole, and takes nobody's run away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from portal.catalog.runs import get_run, list_runs
from portal.database import Engine, create_database_engine, open_session
from portal.demo import build_demo, demo_releases
from portal.demo.build import TINY
from portal.errors import UsageError
from portal.exchange.publish import publish
from portal.exchange.releases import list_releases
from portal.settings import Settings


class Heard:
    """The phases a progress display was told."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def begin(self, phase: str, total_bytes: int) -> None:
        assert total_bytes >= 0
        self.phases.append(phase)

    def advance(self, count: int) -> None:
        assert count >= 0


def _versions(engine: Engine) -> dict[str, int]:
    with open_session(engine) as session:
        return {summary.run: summary.version for summary in list_runs(session, limit=100).items}


def test_one_release_is_published_on_either_database_and_only_once(settings: Settings, engine: Engine) -> None:
    assert build_demo(settings, engine, only="tiny") == ["demo/tiny"]
    assert build_demo(settings, engine, only="demo/tiny") == ["demo/tiny"]
    assert _versions(engine) == {"demo/tiny": 1}
    with open_session(engine) as session:
        summary = get_run(session, "demo/tiny").summary
    assert (summary.checkpoints, summary.chunks, summary.last_step) == (13, 6, 600)
    assert all(summary.openness.values())
    assert not summary.synthetic


def test_the_whole_demo(sqlite_settings: Settings) -> None:
    engine = create_database_engine(sqlite_settings)
    heard = Heard()
    runs = build_demo(sqlite_settings, engine, progress=heard)
    assert runs[:2] == ["demo/tiny", "demo/amber-scale"]
    assert set(runs[2:]) == {release.run for release in list_releases()}
    assert _versions(engine) == dict.fromkeys(runs, 1)
    assert heard.phases.count("Generating demo/amber-scale") == 1
    assert [phase for phase in heard.phases if phase.startswith("Preparing")] == [f"Preparing {run}" for run in runs]
    with open_session(engine) as session:
        summary = get_run(session, "demo/amber-scale").summary
    assert (summary.checkpoints, summary.chunks, summary.last_step, summary.series) == (360, 360, 274_320, 20)
    assert summary.synthetic
    assert build_demo(sqlite_settings, engine) == runs
    assert _versions(engine) == dict.fromkeys(runs, 1)
    engine.dispose()


def test_a_run_from_elsewhere_is_left_as_it_is(sqlite_settings: Settings, tmp_path: Path) -> None:
    engine = create_database_engine(sqlite_settings)
    own = tmp_path / "own"
    shutil.copytree(TINY, own)
    manifest = own / "release.yaml"
    manifest.write_text(manifest.read_text("utf-8").replace("Tiny Llama, really trained", "My own"), "utf-8")
    publish(own, sqlite_settings, engine)
    build_demo(sqlite_settings, engine, only="tiny")
    with open_session(engine) as session:
        summary = get_run(session, "demo/tiny").summary
    assert (summary.version, summary.title) == (1, "My own")
    engine.dispose()


def test_an_unknown_name_is_answered_with_all_names(sqlite_settings: Settings) -> None:
    engine = create_database_engine(sqlite_settings)
    with pytest.raises(UsageError, match="amber-scale") as refused:
        build_demo(sqlite_settings, engine, only="huge")
    assert all(release.name in refused.value.remedy for release in demo_releases())
    assert _versions(engine) == {}
    engine.dispose()
