"""Figures: valid for plotly, exact where it matters, and nothing left out."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.metrics.axes import Axis
from portal.metrics.buckets import Buckets
from portal.metrics.charts import Curve, Panel, Window, draw_panels, pack
from portal.metrics.series import SeriesData, open_series, write_series
from portal.metrics.shapes import BODY, DASHES, HEAD


def unpack(packed: dict[str, str]) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(packed["bdata"]), dtype="<" + packed["dtype"])


@pytest.fixture
def ask(tmp_path: Any) -> Any:
    def query(values: npt.ArrayLike, first: int = 1, buckets: int = 100) -> Buckets:
        array = np.asarray(values, dtype=np.float64)
        steps = np.arange(first, first + len(array), dtype=np.int64)
        about = dict.fromkeys(("group", "unit", "reduction", "description", "column", "source"), "")
        stored = write_series(
            tmp_path, "lab/run/1", [SeriesData("loss", **about, x_kind="step", steps=steps, values=array)]
        )
        return open_series(tmp_path, stored[0].location).query(None, None, buckets)

    return query


def noisy(count: int = 5000) -> npt.NDArray[np.float64]:
    values = 2 + np.random.default_rng(5).normal(0, 0.01, count)
    values[1234], values[2000], values[3000], values[4000] = 9.0, np.nan, np.inf, -np.inf
    return values


def one(name: str, unit: str, buckets: Buckets) -> Panel:
    return Panel(name, unit, (Curve("lab/run", buckets),))


def by_role(figure: dict[str, Any], role: str) -> list[dict[str, Any]]:
    return [trace for trace in figure["data"] if trace["meta"]["role"] == role]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("buckets", [100, 10_000])
def test_plotly_accepts_every_figure(ask: Any, log: bool, buckets: int) -> None:
    panels = [one(name, "nats", ask(noisy(), buckets=buckets)) for name in ("loss", "norm", "rate")]
    figure = draw_panels(panels, Window(1, 5000), log)
    made = go.Figure(data=figure["data"], layout=figure["layout"])
    assert len(made.data) == len(figure["data"])
    assert {trace.yaxis for trace in made.data} == {"y", "y2", "y3"}


def test_spike_nan_and_infinities_stand_at_their_exact_steps(ask: Any) -> None:
    figure = draw_panels([one("loss", "", ask(noisy()))], Window(1, 5000))
    spike = by_role(figure, "spike")[0]
    assert unpack(spike["x"]).tolist() == [1235]
    assert unpack(spike["y"]).tolist() == [9.0]
    marks = {trace["name"]: unpack(trace["x"]).tolist() for trace in by_role(figure, "nonfinite")}
    assert marks == {"nan": [2001], "+inf": [3001], "-inf": [4001]}
    about = figure["panels"][0]["curves"][0]
    assert (about["points"], about["nan"], about["inf"], about["spikes"], about["raw"]) == (5000, 1, 2, 1, False)


def test_the_band_encloses_every_value_and_the_line_lies_in_it(ask: Any) -> None:
    values = noisy()
    figure = draw_panels([one("loss", "", ask(values))], Window(1, 5000))
    band, line = by_role(figure, "band")[0], by_role(figure, "line")[0]
    ys = unpack(band["y"])
    finite = values[np.isfinite(values)]
    assert np.nanmax(ys) == np.float32(finite.max())
    assert np.nanmin(ys) == np.float32(finite.min())
    about = figure["panels"][0]["curves"][0]
    middle = unpack(line["y"])
    assert np.all((unpack(about["min"]) <= middle) & (middle <= unpack(about["max"])))


def test_raw_points_have_no_band_and_their_own_steps(ask: Any) -> None:
    figure = draw_panels([one("loss", "", ask([3.0, 2.5, np.nan, 2.0], first=7))], Window(1, 100))
    assert by_role(figure, "band") == []
    line = by_role(figure, "line")[0]
    assert unpack(line["x"]).tolist() == [7, 8, 9, 10]
    # The point after the gap has no neighbour to be joined to: it would be invisible as a line.
    assert unpack(by_role(figure, "points")[0]["x"]).tolist() == [10]


def test_a_series_without_a_finite_value_is_still_drawn(ask: Any) -> None:
    figure = draw_panels([one("loss", "", ask([np.nan] * 500, buckets=50))], Window(1, 500))
    assert len(unpack(by_role(figure, "nonfinite")[0]["x"])) == 500
    assert len(unpack(by_role(figure, "band")[0]["x"])) == 0
    assert by_role(draw_panels([one("loss", "", ask([]))], Window(1, 5)), "nonfinite") == []


def test_curves_of_several_runs_share_a_panel_and_differ_without_colour(ask: Any) -> None:
    first, second = ask(noisy()), ask([1.0, 2.0, 3.0])
    panel = Panel("loss", "nats", (Curve("lab/a", first), Curve("lab/b", second)))
    figure = draw_panels([panel, one("norm", "", second)], Window(1, 5000))
    go.Figure(data=figure["data"], layout=figure["layout"])
    about = figure["panels"][0]["curves"]
    assert [(c["run"], c["dash"], c["points"]) for c in about] == [
        ("lab/a", DASHES[0], 5000),
        ("lab/b", DASHES[1], 3),
    ]
    assert about[0]["colour"] != about[1]["colour"]
    assert unpack(about[1]["mean"]).tolist() == [1.0, 2.0, 3.0]
    lines = by_role(figure, "line")
    assert [(t["meta"]["panel"], t["meta"]["curve"], t["yaxis"]) for t in lines] == [
        (0, 0, "y"),
        (0, 1, "y"),
        (1, 0, "y2"),
    ]
    assert [t["line"]["dash"] for t in lines] == ["solid", "dash", "solid"]


def test_another_x_places_every_mark(ask: Any) -> None:
    axis = Axis("tokens", np.array([0.0, 1000.0, 5000.0]), np.array([0.0, 1000.0, 9000.0]))
    panel = Panel("loss", "", (Curve("lab/a", ask(noisy()), axis),))
    figure = draw_panels([panel], Window(0, 9000, "tokens"))
    go.Figure(data=figure["data"], layout=figure["layout"])
    assert unpack(by_role(figure, "spike")[0]["x"]).tolist() == [1470.0]
    assert unpack(by_role(figure, "nonfinite")[0]["x"]).tolist() == [3002.0]
    steps = np.array([-10, 0, 500, 1000, 1001, 5000, 5001])
    assert axis.to_x(steps).tolist() == [-10, 0, 500, 1000, 1002, 9000, 9002]
    assert axis.to_step(axis.to_x(steps)).tolist() == steps.tolist()


def test_points_of_evaluations_are_marked(ask: Any) -> None:
    panel = Panel("arc", "", (Curve("lab/a", ask([0.2, 0.3, np.nan, 0.4])),), dots=True)
    line = by_role(draw_panels([panel], Window(1, 4)), "line")[0]
    assert line["mode"] == "lines+markers"
    assert line["marker"]["size"] >= 5


def test_what_a_log_axis_cannot_draw_is_counted(ask: Any) -> None:
    figure = draw_panels([one("loss", "", ask([1.0, 0.0, -2.0, 3.0]))], Window(1, 4), log=True)
    assert figure["panels"][0]["curves"][0]["hidden"] == 2
    assert draw_panels([one("loss", "", ask([1.0, 0.0]))], Window(1, 4))["panels"][0]["curves"][0]["hidden"] == 0


def test_a_log_axis_shows_what_is_not_finite_too(ask: Any) -> None:
    for values, height in (([np.nan] * 9, 1.0), ([2.0, -3.0, np.nan], 2.0)):
        figure = draw_panels([one("loss", "", ask(values))], Window(1, 9), log=True)
        assert set(unpack(by_role(figure, "nonfinite")[0]["y"]).tolist()) == {height}


def test_panels_do_not_overlap(ask: Any) -> None:
    panels = [one(str(k), "", ask([1.0, 2.0])) for k in range(5)]
    layout = draw_panels(panels, Window(1, 2))["layout"]
    domains = [layout["yaxis" if k == 0 else f"yaxis{k + 1}"]["domain"] for k in range(5)]
    assert all(low >= 0 and high <= 1 for low, high in domains)
    assert all(above[0] > below[1] for above, below in itertools.pairwise(domains))
    assert layout["height"] > 5 * (HEAD + BODY)


@given(st.lists(st.integers(-(2**62), 2**62), max_size=20))
def test_packed_steps_are_exact_below_2_to_53(values: list[int]) -> None:
    packed = unpack(pack(np.array(values, dtype=np.int64)))
    for value, kept in zip(values, packed.tolist(), strict=True):
        assert kept == (value if abs(value) < 2**53 else float(value))


@given(st.lists(st.floats(width=64), max_size=20))
def test_packed_values_stay_finite_or_what_they_were(values: list[float]) -> None:
    packed = unpack(pack(np.array(values, dtype=np.float64)))
    for value, kept in zip(values, packed.tolist(), strict=True):
        assert np.isnan(kept) == np.isnan(value)
        assert np.isinf(kept) == np.isinf(value)
        if np.isfinite(value):
            assert kept == pytest.approx(value, rel=1e-6, abs=1e-37)


def test_a_level_curve_stands_in_the_middle_of_a_range_of_its_size(ask: Any) -> None:
    level, odd, none = [0.01] * 50, [0.01, np.nan, np.inf, 0.01], [0.0] * 9
    layout = draw_panels([one("lr", "", ask(v)) for v in (level, odd, none, [1.0, 2.0])], Window(1, 50))["layout"]
    assert layout["yaxis"]["range"] == pytest.approx([0.005, 0.015])
    assert layout["yaxis2"]["range"] == pytest.approx([0.005, 0.015])
    assert "range" not in layout["yaxis3"]
    assert "range" not in layout["yaxis4"]
    assert "range" not in draw_panels([one("lr", "", ask(level))], Window(1, 50), log=True)["layout"]["yaxis"]
