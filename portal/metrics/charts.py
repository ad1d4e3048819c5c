"""Plotly figures of metric series: band, line, marks for spikes and non-finite values, one panel below the other.

A figure is what plotly made of its shapes (``shapes``) with the numbers of this request filled in. A panel holds one
curve, or several of the same metric: other runs, told apart by colour and dash.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from portal.metrics import shapes
from portal.metrics.axes import Axis
from portal.metrics.buckets import KINDS, Buckets
from portal.metrics.shapes import BODY, COLOURS, DASHES, GAP, HEAD, panel_top
from portal.metrics.spikes import find_spikes

_INT32 = np.iinfo(np.int32)

Trace = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """What a query of one series answered. ``axis`` is None where x counts the run's steps."""

    run: str
    buckets: Buckets
    axis: Axis | None = None

    def at(self, steps: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The x of steps of this run."""
        return steps if self.axis is None else self.axis.to_x(steps)


@dataclass(frozen=True)
class Panel:
    """One metric, of one run or of several. ``dots`` marks every point, as for evaluations at checkpoints."""

    name: str
    unit: str
    curves: tuple[Curve, ...]
    dots: bool = False


@dataclass(frozen=True)
class Window:
    """What the x axis shows: from ``low`` to ``high``, in whatever ``kind`` counts."""

    low: float
    high: float
    kind: str = "step"


def draw_panels(panels: Sequence[Panel], window: Window, log: bool = False) -> dict[str, Any]:
    """A figure of these panels over one x axis: ``{data, layout, panels, sizes}``, sizes in pixels.

    ``panels`` says per curve the exact numbers behind every drawn bucket (for the crosshair) and how it was
    aggregated. Curves have the colour of their panel, or where any panel has several, that of their run. With ``log``
    values of 0 and below cannot be drawn; ``hidden`` counts the buckets they fall in.
    """
    layout = dict(shapes.layout_shape(len(panels), log, window.kind))
    pad = (window.high - window.low or 1) * 0.005
    layout["xaxis"] = layout["xaxis"] | {"range": [window.low - pad, window.high + pad]}
    several = any(len(panel.curves) > 1 for panel in panels)
    data: list[Trace] = []
    about: list[dict[str, Any]] = []
    for index, panel in enumerate(panels):
        curves = []
        for number, curve in enumerate(panel.curves):
            colour = COLOURS[(number if several else index) % len(COLOURS)]
            at = {"yaxis": "y" if index == 0 else f"y{index + 1}"}
            place = {"panel": index, "curve": number}
            spikes = find_spikes(curve.buckets)
            for trace in _traces(panel, number, colour, spikes, log):
                data.append(trace | at | {"meta": trace["meta"] | place})
            look = {"run": curve.run, "colour": colour, "dash": DASHES[number % len(DASHES)]}
            curves.append(look | _numbers(curve.buckets, log) | {"spikes": int(spikes.size)})
        level = None if log else _level(panel)
        if level:
            # Around a curve that never moves plotly.js shows one to either side, where a rate of 0.01 looks like 0.
            name = "yaxis" if index == 0 else f"yaxis{index + 1}"
            layout[name] = layout[name] | {"range": [level - abs(level) / 2, level + abs(level) / 2]}
        about.append({"name": panel.name, "unit": panel.unit, "top": panel_top(index), "curves": curves})
    sizes = {"head": HEAD, "body": BODY, "gap": GAP}
    return {"data": data, "layout": layout, "panels": about, "sizes": sizes}


def _level(panel: Panel) -> float | None:
    """The one value that all curves of a linear panel have everywhere; None where they move."""
    ends = {
        float(end)
        for curve in panel.curves
        for end in (
            np.fmin.reduce(curve.buckets.min, initial=np.nan),
            np.fmax.reduce(curve.buckets.max, initial=np.nan),
        )
        if np.isfinite(end)
    }
    return ends.pop() if len(ends) == 1 else None


def pack(values: npt.ArrayLike) -> dict[str, str]:
    """An array as plotly.js reads it: 32-bit integers where the values fit, else 64-bit floats; floats in 32 bit."""
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        small = array.size == 0 or (int(array.min()) >= _INT32.min and int(array.max()) <= _INT32.max)
        return _packed(array, "<i4" if small else "<f8")
    # A finite value beyond float32 must not turn into an infinity.
    finite = np.abs(array[np.isfinite(array)])
    wide = finite.size and (float(finite.max()) > 3e38 or bool(np.any((finite > 0) & (finite < 1e-37))))
    return _packed(array, "<f8" if wide else "<f4")


def pack_x(places: npt.NDArray[Any]) -> dict[str, str]:
    """Places on the x axis, exact: integers as such, whole numbers below 2**24 in float32, all else in float64."""
    if places.dtype.kind in "iu":
        return pack(places)
    known = places[~np.isnan(places)]
    narrow = not known.size or (float(np.abs(known).max()) <= 2**24 and bool((known == np.floor(known)).all()))
    return _packed(places, "<f4" if narrow else "<f8")


def _packed(array: npt.NDArray[Any], dtype: str) -> dict[str, str]:
    data = array.astype(dtype, copy=False).tobytes()
    return {"dtype": dtype[1:], "bdata": base64.b64encode(data).decode("ascii")}


def _traces(panel: Panel, number: int, colour: str, spikes: npt.NDArray[np.intp], log: bool) -> Iterator[Trace]:
    curve = panel.curves[number]
    buckets = curve.buckets
    middle = curve.at((buckets.first_step + buckets.last_step) // 2)
    if not buckets.raw:
        yield shapes.band_shape(colour, len(panel.curves) == 1) | _band(buckets, middle)
    x, y = pack_x(middle), pack(buckets.mean)
    name = {"name": panel.name}
    yield shapes.line_shape(number, colour, panel.dots) | name | {"x": x, "y": y, "meta": {"role": "line"}}
    # A line needs two neighbours; a point between two gaps would be invisible without a marker.
    alone = _isolated(np.isfinite(buckets.mean))
    if alone.any() and not panel.dots:
        points = {"x": pack_x(middle[alone]), "y": pack(buckets.mean[alone])}
        yield shapes.point_shape(colour) | name | points | {"meta": {"role": "points"}}
    if spikes.size:
        tops = {"x": pack_x(curve.at(buckets.max_step[spikes])), "y": pack(buckets.max[spikes])}
        yield shapes.spike_shape() | tops | {"meta": {"role": "spike"}}
    for code, kind in enumerate(KINDS):
        steps = buckets.nonfinite_steps[buckets.nonfinite_kinds == code]
        if steps.size:
            marks = {"x": pack_x(curve.at(steps)), "y": pack(_heights(buckets, steps, log))}
            yield shapes.nonfinite_shape(kind) | marks | {"meta": {"role": "nonfinite"}}


def _band(buckets: Buckets, middle: npt.NDArray[Any]) -> Trace:
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
        "x": pack_x(np.concatenate(xs) if xs else np.empty(0)),
        "y": pack(np.concatenate(ys) if ys else np.empty(0)),
        "meta": {"role": "band"},
    }


def _heights(buckets: Buckets, steps: npt.NDArray[np.int64], log: bool) -> npt.NDArray[np.float64]:
    """For each step the mean of the nearest bucket at or before it that has one, else the first after, else 0.

    With ``log`` only means above 0 count, and 1 stands where there is none.
    """
    known = np.flatnonzero((buckets.finite > 0) & ((buckets.mean > 0) if log else True))
    if not known.size:
        return np.full(len(steps), 1.0 if log else 0.0)
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
    if buckets.raw:
        # By index into KINDS, what each of them was.
        numbers["special"] = buckets.nonfinite_kinds.tolist()
    with np.errstate(invalid="ignore"):
        hidden = int(np.count_nonzero(buckets.min <= 0)) if log else 0
    return numbers | {
        "raw": buckets.raw,
        "points": buckets.points,
        "buckets": len(buckets),
        "nan": int(buckets.nan.sum()),
        "inf": int(buckets.inf.sum()),
        "hidden": hidden,
    }


_EXACT = ("first_step", "last_step", "min", "max", "mean", "min_step", "max_step", "finite")
