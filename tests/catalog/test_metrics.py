"""Metric queries through the catalog: names, ranges and x axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.metrics import MetricQuery, find_series, list_series, query_metrics
from portal.catalog.steps import get_step
from portal.database import open_session
from portal.errors import BadRequest, DataFault, SeriesNotFound
from portal.settings import Settings
from tests.builders import SmallRun, record, series_data


def test_series_are_listed_with_their_definitions(session: Session, small: SmallRun) -> None:
    loss = list_series(session, small.run).items[0]
    assert (loss.name, loss.unit, loss.points, loss.nan, loss.inf) == ("train/loss", "nats", 20, 1, 1)


def test_raw_points_are_the_points(session: Session, settings: Settings, small: SmallRun) -> None:
    found = query_metrics(session, settings, small.run, MetricQuery(("train/loss",)))
    assert found.series[0].buckets.raw
    assert found.series[0].buckets.first_step.tolist() == list(range(1, 21))
    _, whole = find_series(session, settings, small.run, "train/loss")
    assert np.array_equal(whole.values, small.loss, equal_nan=True)


def test_x_by_tokens_chunks_and_checkpoints(session: Session, settings: Settings, small: SmallRun) -> None:
    def x(kind: str) -> list[int]:
        found = query_metrics(session, settings, small.run, MetricQuery(("train/loss",), kind, first=4, last=11))
        assert found.series[0].x is not None
        return found.series[0].x["first_step"].tolist()

    assert x("tokens") == [64 * s for s in range(4, 12)]
    assert x("chunk") == [0] * 7 + [1]
    assert x("checkpoint") == [0, 1, 1, 1, 1, 1, 2, 2]


def test_x_that_is_not_known_is_refused(engine: Engine, settings: Settings) -> None:
    record(engine, settings, {"run": "lab/bare"}, series=[series_data("loss", [1, 2], [1, 2])])
    with open_session(engine) as session:
        for x in ("tokens", "chunk"):
            with pytest.raises(BadRequest) as refused:
                query_metrics(session, settings, "lab/bare", MetricQuery(("loss",), x))
            assert "x=step" in refused.value.remedy


@pytest.mark.parametrize(
    "query",
    [
        {"series": ()},
        {"series": ("train/loss",) * 65},
        {"series": ("train/loss",), "x": "time"},
        {"series": ("train/loss",), "buckets": 0},
        {"series": ("train/loss",), "buckets": 10_001},
        {"series": ("train/loss",), "first": 5, "last": 4},
        {"series": ("train/loss",), "first": 10**30},
        {"series": ("train/loss",), "last": -(10**30)},
    ],
)
def test_questions_that_cannot_be_answered(
    session: Session, settings: Settings, small: SmallRun, query: dict[str, Any]
) -> None:
    with pytest.raises(BadRequest):
        query_metrics(session, settings, small.run, MetricQuery(**query))


def test_an_unknown_series_names_close_ones(session: Session, settings: Settings, small: SmallRun) -> None:
    with pytest.raises(SeriesNotFound) as refused:
        query_metrics(session, settings, small.run, MetricQuery(("train/los",)))
    assert refused.value.extra["nearest"][0] == "train/loss"


def test_damaged_numbers_are_told_to_whoever_asks_and_hide_nothing_else(
    session: Session, settings: Settings, small: SmallRun
) -> None:
    damaged, sound = find_series(session, settings, small.run, "lr")[1], "train/loss"
    assert len(damaged) == 10
    files = sorted((settings.data / "store" / "metrics").rglob("*.series"))
    assert len(files) == 2
    files[1].write_bytes(b"no numbers")
    assert [m.name for m in get_step(session, settings, small.run, 3).metrics] == [sound]
    assert query_metrics(session, settings, small.run, MetricQuery((sound,))).series[0].buckets.points == 20
    with pytest.raises(DataFault):
        query_metrics(session, settings, small.run, MetricQuery(("lr",)))
