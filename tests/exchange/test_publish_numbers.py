"""Numbers in every portal's own folder: machines that share a catalog, and folders that lost theirs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlmodel import select

from portal.catalog.published import Published, find_published
from portal.database import open_session
from portal.errors import ManifestRefused
from portal.exchange import publication as publishing
from portal.exchange.publish import publish
from portal.metrics.series import open_series
from portal.models import MetricSeries
from portal.settings import Settings
from tests.exchange.releases import tree, write_release


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


@pytest.fixture
def elsewhere(tmp_path: Path, settings: Settings) -> Settings:
    """Another machine with the same database and a folder of its own."""
    return settings.model_copy(update={"data": tmp_path / "other-data", "database_url": settings.resolved_database_url})


def losses(engine: Engine, settings: Settings) -> list[float]:
    """The stored loss, as a portal with these settings would serve it."""
    with open_session(engine) as session:
        location = session.exec(select(MetricSeries.location).where(MetricSeries.name == "loss")).one()
    return open_series(settings.data / "store" / "metrics", location).values.tolist()


def test_publishing_what_another_machine_published_makes_its_numbers_servable_here(
    release: Path, settings: Settings, elsewhere: Settings, engine: Engine
) -> None:
    publish(release, settings, engine)
    told = publish(release, elsewhere, engine, dry_run=True)
    assert any("they would be read and stored" in line for line in told.plan)
    assert not tree(elsewhere.data)
    report = publish(release, elsewhere, engine)
    assert (report.state, report.version, report.points) == ("unchanged", 1, 40)
    assert any("they are there now" in line for line in report.plan)
    assert losses(engine, elsewhere) == losses(engine, settings)
    assert publish(release, elsewhere, engine).plan == publish(release, settings, engine).plan


def test_the_later_of_two_machines_at_once_is_told_that_nothing_changed(
    release: Path, settings: Settings, elsewhere: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(release, settings, engine)
    looks: list[Published | None] = []

    def late(*args: object) -> Published | None:
        looks.append(find_published(*args) if looks else None)  # type: ignore[arg-type]
        return looks[-1]

    monkeypatch.setattr(publishing, "find_published", late)
    report = publish(release, elsewhere, engine)
    assert len(looks) == 2
    assert (report.state, report.version, report.series) == ("unchanged", first.version, 2)
    assert losses(engine, elsewhere) == losses(engine, settings)


def test_lost_numbers_come_back_by_publishing_again(release: Path, settings: Settings, engine: Engine) -> None:
    publish(release, settings, engine)
    before = losses(engine, settings)
    shutil.rmtree(settings.data / "store" / "metrics")
    assert publish(release, settings, engine).state == "unchanged"
    assert np.array_equal(losses(engine, settings), before)
    (settings.data / "store" / "metrics" / "lab" / "small").rename(settings.data / "gone")
    (release / "train.csv").write_text("no numbers")
    with pytest.raises(ManifestRefused):
        publish(release, settings, engine)


def test_numbers_that_would_be_others_are_not_stored(
    release: Path, settings: Settings, elsewhere: Settings, engine: Engine
) -> None:
    publish(release, settings, engine)
    with open_session(engine) as session:
        for series in session.exec(select(MetricSeries)):
            series.location = series.location.replace("/g0.", "/g7.")
        session.commit()
    report = publish(release, elsewhere, engine)
    assert report.state == "unchanged"
    assert any("copy" in line and "lab/small" in line for line in report.plan)
    assert not any(name.endswith(".series") for name in tree(elsewhere.data))
