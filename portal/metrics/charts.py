"""Plotly figures of metric series: band, line, marks for spikes and non-finite values, one panel below the other.

The figure is plain JSON in the vocabulary of plotly.js 4.1 (which Python's ``plotly`` 7.1 validates in the
tests); building it needs no import of ``plotly``. Arrays travel as ``{"dtype", "bdata"}`` (base64, little-endian).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from portal.metrics.buckets import KINDS, Buckets
from portal.metrics.spikes import find_spikes

COLOURS = ("#2f7fc1", "#c8641b", "#0a8f6c", "#a5579b", "#8a7a12", "#5b6ee1", "#b8434e", "#4d8a9e")
"""At least 3:1 against the light and the dark page, apart for the common colour-blindnesses."""
ALARM = "#d1435b"
HEAD, BODY, GAP, FOOT, LEFT, RIGHT = 30, 172, 10, 30, 78, 16
"""Pixels: title row and drawing of a panel, space between panels, room for the x axis and at the sides."""
_SYMBOLS = {"nan": "triangle-up", "+inf": "triangle-up-open", "-inf": "triangle-down-open"}
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Panel:
    """One series with what a query of it answered."""

    name: str
    unit: str
    buckets: Buckets


def draw_panels(panels: Sequence[Panel], first: int, last: int, log: bool = False) -> dict[str, Any]:
    """A figure of one panel per series over steps ``first`` to ``last``: ``{data, layout, panels}``.

    ``panels`` holds per series the exact numbers behind every drawn bucket (for the crosshair) and how it was
    aggregated. With ``log`` values of 0 and below cannot be drawn; ``hidden`` counts the buckets they fall in.
    """
    height = len(panels) * (HEAD + BODY) + max(len(panels) - 1, 0) * GAP
    layout: dict[str, Any] = {
        "height": height + FOOT,
        "margin": {"l": LEFT, "r": RIGHT, "t": 0, "b": FOOT},
        "showlegend": False,
        "hovermode": False,
        "dragmode": "zoom",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": _x_axis(first, last, len(panels)),
    }
    data: list[dict[str, Any]] = []
    about: list[dict[str, Any]] = []
    for index, panel in enumerate(panels):
        top = index * (HEAD + BODY + GAP)
        axis = "y" if index == 0 else f"y{index + 1}"
        layout["yaxis" if index == 0 else f"yaxis{index + 1}"] = _y_axis(top, height, log)
        colour = COLOURS[index % len(COLOURS)]
        data += _traces(panel, axis, colour)
        about.append(
            {"name": panel.name, "unit": panel.unit, "colour": colour, "top": top, **_numbers(panel.buckets, log)}
        )
    return {"data": data, "layout": layout, "panels": about}


def pack(values: npt.ArrayLike) -> dict[str, str]:
    """An array as plotly.js reads it: 32-bit integers where the values fit, else 64-bit floats; floats in 32 bit."""
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        small = array.size == 0 or (int(array.min()) >= _INT32.min and int(array.max()) <= _INT32.max)
        array = array.astype("<i4" if small else "<f8")
    else:
        # A finite value beyond float32 must not turn into an infinity.
        finite = np.abs(array[np.isfinite(array)])
        wide = finite.size and (float(finite.max()) > 3e38 or bool(np.any((finite > 0) & (finite < 1e-37))))
        array = array.astype("<f8" if wide else "<f4")
    return {"dtype": array.dtype.str[1:], "bdata": base64.b64encode(array.tobytes()).decode("ascii")}


def _traces(panel: Panel, axis: str, colour: str) -> list[dict[str, Any]]:
    buckets = panel.buckets
    middle = (buckets.first_step + buckets.last_step) // 2
    shared = {"type": "scatter", "xaxis": "x", "yaxis": axis, "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = []
    if not buckets.raw:
        traces.append(shared | _band(buckets, middle, colour))
    # A line needs two neighbours; a point between two gaps would be invisible without a marker.
    alone = _isolated(np.isfinite(buckets.mean))
    traces.append(
        shared
        | {"name": panel.name, "mode": "lines", "x": pack(middle), "y": pack(buckets.mean), "connectgaps": False}
        | {"line": {"color": colour, "width": 1.4}, "meta": {"role": "line"}}
    )
    if alone.any():
        traces.append(
            shared
            | {"name": panel.name, "mode": "markers", "x": pack(middle[alone]), "y": pack(buckets.mean[alone])}
            | {"marker": {"color": colour, "size": 4}, "meta": {"role": "points"}}
        )
    spikes = find_spikes(buckets)
    if spikes.size:
        traces.append(
            shared
            | {"name": "spikes", "mode": "markers", "x": pack(buckets.max_step[spikes]), "y": pack(buckets.max[spikes])}
            | {"marker": {"symbol": "diamond-open", "size": 8, "color": ALARM}, "meta": {"role": "spike"}}
        )
    return traces + [shared | trace for trace in _nonfinite(buckets)]


def _band(buckets: Buckets, middle: npt.NDArray[np.int64], colour: str) -> dict[str, Any]:
    """Min to max of every bucket as closed outlines, one per stretch without a gap."""
    xs: list[npt.NDArray[np.float64]] = []
    ys: list[npt.NDArray[np.float64]] = []
    present = np.flatnonzero(buckets.finite > 0)
    stretches = np.split(present, np.flatnonzero(np.diff(present) > 1) + 1) if present.size else []
    for stretch in stretches:
        x = middle[stretch].astype(np.float64)
        xs += [x, x[::-1], np.array([np.nan])]
        ys += [buckets.max[stretch], buckets.min[stretch][::-1], np.array([np.nan])]
    return {
        "name": "min to max",
        "mode": "lines",
        # Steps up to 2**24 are exact in float32, beyond that `pack_steps` keeps 64 bits.
        "x": _pack_steps(np.concatenate(xs) if xs else np.empty(0)),
        "y": pack(np.concatenate(ys) if ys else np.empty(0)),
        "fill": "toself",
        "fillcolor": _faded(colour, 0.28),
        "line": {"color": _faded(colour, 0.55), "width": 0.6},
        "meta": {"role": "band"},
    }


def _nonfinite(buckets: Buckets) -> list[dict[str, Any]]:
    """Triangles at every NaN and infinity, at the height of the last finite value before them."""
    traces = []
    for code, kind in enumerate(KINDS):
        steps = buckets.nonfinite_steps[buckets.nonfinite_kinds == code]
        if steps.size:
            traces.append(
                {
                    "name": kind,
                    "mode": "markers",
                    "x": pack(steps),
                    "y": pack(_heights(buckets, steps)),
                    "cliponaxis": False,
                }
                | {"marker": {"symbol": _SYMBOLS[kind], "size": 10, "color": ALARM}, "meta": {"role": "nonfinite"}}
            )
    return traces


def _heights(buckets: Buckets, steps: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """For each step the mean of the nearest bucket at or before it that has one, else the first after, else 0."""
    known = np.flatnonzero(buckets.finite > 0)
    if not known.size:
        return np.zeros(len(steps))
    place = np.searchsorted(buckets.first_step[known], steps, side="right") - 1
    heights: npt.NDArray[np.float64] = buckets.mean[known[np.clip(place, 0, None)]]
    return heights


def _isolated(finite: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    padded = np.concatenate(([False], finite, [False]))
    alone: npt.NDArray[np.bool_] = finite & ~padded[:-2] & ~padded[2:]
    return alone


def _numbers(buckets: Buckets, log: bool) -> dict[str, Any]:
    """The numbers behind the drawing, per bucket, and how many points they stand for."""
    names = ("first_step", "min", "max", "mean", "finite") if buckets.raw else _EXACT
    numbers: dict[str, Any] = {name: pack(getattr(buckets, name)) for name in names}
    numbers["nonfinite"] = pack(buckets.nan + buckets.inf)
    with np.errstate(invalid="ignore"):
        hidden = int(np.count_nonzero(buckets.min <= 0)) if log else 0
    return numbers | {
        "raw": buckets.raw,
        "points": buckets.points,
        "buckets": len(buckets),
        "nan": int(buckets.nan.sum()),
        "inf": int(buckets.inf.sum()),
        "spikes": int(find_spikes(buckets).size),
        "hidden": hidden,
    }


_EXACT = ("first_step", "last_step", "min", "max", "mean", "min_step", "max_step", "finite")


def _x_axis(first: int, last: int, panels: int) -> dict[str, Any]:
    pad = max(last - first, 1) * 0.005
    return {
        "range": [first - pad, last + pad],
        "anchor": "y" if panels < 2 else f"y{panels}",
        "tickformat": ",d",
        "nticks": 9,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
    }


def _y_axis(top: int, height: int, log: bool) -> dict[str, Any]:
    return {
        "domain": [max(1 - (top + HEAD + BODY) / height, 0.0), 1 - (top + HEAD) / height],
        "anchor": "x",
        "type": "log" if log else "linear",
        "fixedrange": True,
        "nticks": 5,
        "zeroline": False,
        "automargin": False,
        "exponentformat": "SI",
    }


def _pack_steps(steps: npt.NDArray[np.float64]) -> dict[str, str]:
    """Steps with gaps (NaN): exact in float32 below 2**24, in float64 above."""
    wide = steps.size and np.nanmax(np.abs(steps)) > 2**24
    array = steps.astype("<f8" if wide else "<f4")
    return {"dtype": array.dtype.str[1:], "bdata": base64.b64encode(array.tobytes()).decode("ascii")}


def _faded(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
