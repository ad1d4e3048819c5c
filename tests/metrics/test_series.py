"""Stored series: what goes in comes out, files appear whole, damage and nonsense are named."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from portal.errors import BadRequest, DataFault, FileMissing, TooLarge
from portal.metrics import packed
from portal.metrics.series import SeriesData, open_series, write_series

LOSS = SeriesData(
    name="loss",
    group="train",
    unit="nats",
    reduction="rank 0",
    description="next-token loss",
    column="train/loss",
    source="train.csv",
    x_kind="step",
    steps=np.array([1, 2, 2, 5], dtype=np.int64),
    values=np.array([3.5, math.nan, 2.5, math.inf]),
)


def other(name: str, steps: list[int], values: list[float]) -> SeriesData:
    return replace(LOSS, name=name, steps=np.array(steps, dtype=np.int64), values=np.array(values))


def test_rows_for_the_catalog_say_what_was_stored(tmp_path: Path) -> None:
    stored = write_series(tmp_path, "org/run@1", [LOSS, other("lr", [], [])])
    assert [(s.name, s.points, s.first_step, s.last_step, s.nan_count, s.inf_count) for s in stored] == [
        ("loss", 4, 1, 5, 1, 1),
        ("lr", 0, None, None, 0, 0),
    ]
    assert (stored[0].unit, stored[0].reduction, stored[0].column) == ("nats", "rank 0", "train/loss")
    assert (stored[0].source, stored[0].x_kind, stored[0].description) == ("train.csv", "step", "next-token loss")


def test_values_come_back_bit_for_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(5).integers(0, 2**63, size=3000, dtype=np.uint64).view(np.float64)
    data = replace(LOSS, steps=np.arange(3000), values=values)
    series = open_series(tmp_path, write_series(tmp_path, "a/b@1", [data])[0].location)
    assert series.values.tobytes() == values.tobytes()
    assert len(series) == 3000


def test_the_value_at_a_step_is_the_one_logged_last(tmp_path: Path) -> None:
    series = open_series(tmp_path, write_series(tmp_path, "a/b@1", [LOSS])[0].location)
    assert series.value_at(1) == 3.5
    assert series.value_at(2) == 2.5
    assert series.values_at(2)[1:] == [2.5]
    assert math.isnan(series.values_at(2)[0])
    assert series.value_at(5) == math.inf
    for absent in (0, 3, 6, -1, 10**30, -(10**30)):
        assert series.value_at(absent) is None


def test_series_of_the_same_steps_share_a_file(tmp_path: Path) -> None:
    series = [
        LOSS,
        other("a", [1, 2, 3], [1, 2, 3]),
        other("b", [1, 2, 3], [4, 5, 6]),
        other("c", [1, 2, 2, 5], [7, 8, 9, 10]),
    ]
    stored = write_series(tmp_path, "a/b@1", series)
    files = [s.location.partition("#")[0] for s in stored]
    assert files[0] == files[3] != files[1] == files[2]
    assert [open_series(tmp_path, s.location).values[-1] for s in stored] == [math.inf, 3.0, 6.0, 10.0]


def test_stored_arrays_cannot_be_written_to(tmp_path: Path) -> None:
    series = open_series(tmp_path, write_series(tmp_path, "a/b@1", [LOSS])[0].location)
    with pytest.raises(ValueError, match="read-only"):
        series.values[0] = 1.0


def test_a_replaced_file_is_seen_and_the_old_one_stays_readable(tmp_path: Path) -> None:
    location = write_series(tmp_path, "a/b@1", [LOSS])[0].location
    before = open_series(tmp_path, location)
    write_series(tmp_path, "a/b@1", [other("loss", [1], [9.0])])
    assert open_series(tmp_path, location).values.tolist() == [9.0]
    assert before.values[0] == 3.5


def test_an_empty_series_answers_with_no_bucket(tmp_path: Path) -> None:
    answer = open_series(tmp_path, write_series(tmp_path, "a/b@1", [other("x", [], [])])[0].location).query()
    assert (len(answer), answer.points, answer.raw) == (0, 0, True)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="disk full"):
        write_series(tmp_path, "a/b@1", [LOSS])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("series", "says"),
    [
        ([LOSS, LOSS], "Two series are named 'loss'"),
        ([replace(LOSS, values=np.zeros(3))], "4 steps but 3 values"),
        ([replace(LOSS, steps=np.array([1, 3, 2, 4]))], "not in ascending order"),
    ],
)
def test_series_that_contradict_themselves_are_refused(tmp_path: Path, series: list[SeriesData], says: str) -> None:
    with pytest.raises(DataFault, match=says):
        write_series(tmp_path, "a/b@1", series)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["../x", "/x", "a/../b", "", "a b", ".hidden"])
def test_a_key_cannot_leave_the_store(tmp_path: Path, key: str) -> None:
    with pytest.raises(BadRequest, match="cannot name a folder"):
        write_series(tmp_path / "store", key, [LOSS])


@pytest.mark.parametrize(
    "location", ["", "a/b@1/g0.series", "../a/g0.series#0", "a/b@1/g0.series#7", "a/b@1/g9.series#0", "a/x#0"]
)
def test_a_location_that_holds_nothing_is_missing(tmp_path: Path, location: str) -> None:
    write_series(tmp_path, "a/b@1", [LOSS])
    with pytest.raises(FileMissing):
        open_series(tmp_path, location)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    stored = write_series(tmp_path, "a/b@1", [LOSS])[0]
    path = tmp_path / stored.location.partition("#")[0]
    whole = path.read_bytes()
    for damaged, says in [
        (whole[:-8], "it should have"),
        (b"NOTMAGIC" + whole[8:], "not a file of packed metrics"),
        (whole[:20] + b"X" + whole[21:], "not a file of packed metrics"),
        (b"", "not a file of packed metrics"),
    ]:
        path.write_bytes(damaged)
        with pytest.raises(DataFault, match=says):
            open_series(tmp_path, stored.location)
    path.write_bytes(whole)
    assert open_series(tmp_path, stored.location).value_at(1) == 3.5


def test_more_points_than_places_can_number_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_POINTS", 3)
    with pytest.raises(TooLarge, match="4 points"):
        write_series(tmp_path, "a/b@1", [LOSS])
