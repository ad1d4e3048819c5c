"""Ready answers: JSON without NaN that hides none, packed columns without loss, unsampled exports."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from portal.metrics.export import to_csv, to_parquet
from portal.metrics.response import MOST_NONFINITE, NamedBuckets, pack_exact, to_json
from tests.metrics.test_buckets import stored


def answer(series: Any, packed: bool = False, **question: Any) -> dict[str, Any]:
    """The one series of an answer, parsed by a strict JSON reader."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    text = to_json([NamedBuckets("loss", series.query(**question))], {"x": "step"}, packed)
    document = json.loads(text, parse_constant=refuse)
    assert document["x"] == "step"
    return document["series"][0]


def test_raw_points_name_their_special_values(tmp_path: Path) -> None:
    series = stored(tmp_path, np.array([1, 2, 3, 4]), np.array([1.5, math.nan, math.inf, -math.inf]))
    got = answer(series)
    assert got == {
        "name": "loss",
        "points": 4,
        "kind": "raw",
        "step": [1, 2, 3, 4],
        "value": [1.5, None, None, None],
        "special": [[2, "nan"], [3, "+inf"], [4, "-inf"]],
    }


def test_buckets_say_null_where_there_is_no_finite_value(tmp_path: Path) -> None:
    values = np.array([1.0, 2.0, math.nan, math.nan, 5.0, math.inf])
    got = answer(stored(tmp_path, np.arange(1, 7), values), buckets=3)
    assert got["kind"] == "buckets"
    assert (got["first_step"], got["last_step"]) == ([1, 3, 5], [2, 4, 6])
    assert (got["min"], got["max"]) == ([1.0, None, 5.0], [2.0, None, 5.0])
    assert (got["mean"], got["last"]) == ([1.5, None, 5.0], [2.0, None, 5.0])
    assert (got["min_step"], got["max_step"]) == ([1, None, 5], [2, None, 5])
    assert (got["finite"], got["nan"], got["inf"]) == ([2, 0, 1], [0, 2, 0], [0, 0, 1])
    assert got["nonfinite"] == [[3, "nan"], [4, "nan"], [6, "+inf"]]
    assert got["nonfinite_total"] == got["nonfinite_listed"] == 3


def test_a_long_list_of_nonfinite_points_states_its_length(tmp_path: Path) -> None:
    points = MOST_NONFINITE + 500
    got = answer(stored(tmp_path, np.arange(points), np.full(points, math.nan)), buckets=10)
    assert len(got["nonfinite"]) == got["nonfinite_listed"] == MOST_NONFINITE
    assert got["nonfinite_total"] == sum(got["nan"]) == points


def test_packed_columns_hold_the_same_numbers(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=5000)
    values[17] = math.nan
    values[4990:] = math.nan
    series = stored(tmp_path, np.arange(5000), values)
    plain, packed = answer(series, buckets=700), answer(series, packed=True, buckets=700)
    for name in ("first_step", "min", "max_step", "mean", "nan"):
        column = packed[name]
        numbers = np.frombuffer(base64.b64decode(column["bdata"]), f"<{column['dtype']}")
        expected = [(-1 if "step" in name else math.nan) if v is None else v for v in plain[name]]
        assert np.array_equal(numbers, expected, equal_nan=True)


@pytest.mark.parametrize(("top", "dtype"), [(2**31 - 1, "i4"), (2**31, "f8"), (2**53 - 1, "f8")])
def test_large_integers_are_packed_without_loss(top: int, dtype: str) -> None:
    packed = pack_exact(np.array([0, top]))
    assert packed["dtype"] == dtype
    assert int(np.frombuffer(base64.b64decode(packed["bdata"]), f"<{dtype}")[1]) == top


def test_another_x_stands_beside_the_steps(tmp_path: Path) -> None:
    series = stored(tmp_path, np.arange(1, 41), np.ones(40))
    for buckets in (10, 1000):
        asked = series.query(buckets=buckets)
        x = {name: getattr(asked, name) * 4096 for name in ("first_step", "last_step", "min_step", "max_step")}
        got = json.loads(to_json([NamedBuckets("loss", asked, x, {"unit": "nats"})]))["series"][0]
        assert got["unit"] == "nats"
        if asked.raw:
            assert got["x"][0] == 4096
        else:
            assert [got["first_x"][1], got["last_x"][-1]] == [5 * 4096, 40 * 4096]


def test_csv_and_parquet_hold_every_point(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(size=150_000) * 1e-5
    values[[3, 70_000, 149_999]] = math.nan, math.inf, -math.inf
    steps = np.repeat(np.arange(75_000), 2)
    series = stored(tmp_path, steps, values)
    table = pyarrow.parquet.read_table(io.BytesIO(b"".join(to_parquet(series))))
    assert table["value"].null_count == 0
    assert np.array_equal(table["step"].to_numpy(), steps)
    assert np.array_equal(table["value"].to_numpy(), values, equal_nan=True)
    lines = list(csv.reader(io.StringIO(b"".join(to_csv(series)).decode())))
    assert lines[0] == ["step", "value"]
    assert [lines[4][1], lines[70_001][1], lines[150_000][1]] == ["NaN", "inf", "-inf"]
    assert np.array_equal(np.array([float(line[1]) for line in lines[1:]]), values, equal_nan=True)
    assert np.array_equal(np.array([int(line[0]) for line in lines[1:]]), steps)


def test_an_empty_series_exports_as_an_empty_table(tmp_path: Path) -> None:
    series = stored(tmp_path, np.empty(0, np.int64), np.empty(0))
    assert b"".join(to_csv(series)) == b"step,value\n"
    assert pyarrow.parquet.read_table(io.BytesIO(b"".join(to_parquet(series)))).num_rows == 0
