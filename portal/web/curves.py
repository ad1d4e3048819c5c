"""Curves as plain SVG, for pages that must open without a server or script: nothing of a series is hidden.

Each bucket is drawn from its smallest to its largest value, so a spike of one step is there; what is not a finite
number stands as a mark at its exact step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from markupsafe import Markup

from portal.metrics.buckets import KINDS, Buckets
from portal.web.filters import metric, number, short

WIDTH, HEIGHT = 960, 220
LEFT, RIGHT, TOP, BOTTOM = 74, 14, 12, 30
MARKS = 400
"""Marks of values that are not finite, at most; beyond that they are counted alone."""


def draw_curve(name: str, unit: str, buckets: Buckets, first: int, last: int) -> Markup:
    """One panel over the steps ``first`` to ``last``; numbers in the text, for whoever cannot see it."""
    finite = buckets.finite > 0
    low, high = _reach(buckets, finite)
    panel = _Panel(first, max(last, first + 1), low, high)
    label = _described(name, unit, buckets, finite)
    parts = [
        Markup('<svg class="curve" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, label),
        *_grid(panel),
        *_band(panel, buckets, finite),
        *_line(panel, buckets, finite),
        *_marks(panel, buckets),
        Markup("</svg>"),
    ]
    return Markup("").join(parts)


class _Panel:
    def __init__(self, first: int, last: int, low: float, high: float) -> None:
        self.first, self.last, self.low, self.high = first, last, low, high

    def x(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        # Halved first: the distance of two large numbers may be no number.
        share = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _reach(buckets: Buckets, finite: np.ndarray) -> tuple[float, float]:
    if not finite.any():
        return 0.0, 1.0
    low, high = float(buckets.min[finite].min()), float(buckets.max[finite].max())
    if high - low <= abs(high) * 1e-12:
        pad = abs(high) * 0.1 or 1.0
        return low - pad, high + pad
    pad = (high / 2 - low / 2) * 0.08
    return max(low - pad, -1.7e308), min(high + pad, 1.7e308)


def _described(name: str, unit: str, buckets: Buckets, finite: np.ndarray) -> str:
    told = f"{name}{f' in {unit}' if unit else ''}: {number(buckets.points)} points"
    if finite.any():
        k, m = int(np.nanargmin(buckets.min)), int(np.nanargmax(buckets.max))
        told += f", smallest {metric(float(buckets.min[k]))} at step {number(int(buckets.min_step[k]))}"
        told += f", largest {metric(float(buckets.max[m]))} at step {number(int(buckets.max_step[m]))}"
    odd = len(buckets.nonfinite_steps)
    return told + (f", {number(odd)} not finite" if odd else "")


def _grid(panel: _Panel) -> Iterator[Markup]:
    for value in _ticks(panel.low, panel.high, 5):
        y = panel.y(value)
        yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y)
        yield Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            LEFT - 8, y + 4, metric(value)
        )
    for value in _ticks(panel.first, panel.last, 6):
        if value == int(value):
            x = panel.x(value)
            yield Markup('<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
                x, x, TOP, HEIGHT - BOTTOM
            )
            yield Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                x, HEIGHT - 10, short(int(value)) if value >= 10_000 else number(int(value))
            )


def _ticks(low: float, high: float, count: int) -> Iterator[float]:
    """Round numbers between two, about ``count`` of them."""
    raw = high / count - low / count
    if not math.isfinite(raw) or raw <= 0:
        return
    step = 10.0 ** math.floor(math.log10(raw))
    step *= next(m for m in (1, 2, 5, 10) if step * m >= raw * 0.999)
    at = math.ceil(low / step) * step
    while at <= high and step > 0 and at + step > at:
        yield 0.0 if abs(at) < step / 1e6 else float(f"{at:.12g}")
        at += step


def _band(panel: _Panel, buckets: Buckets, finite: np.ndarray) -> Iterator[Markup]:
    """One upright stroke a bucket, from its smallest to its largest value."""
    strokes = []
    for k in np.flatnonzero(finite & (buckets.max > buckets.min)):
        x = panel.x((int(buckets.first_step[k]) + int(buckets.last_step[k])) / 2)
        top, bottom = panel.y(float(buckets.max[k])), panel.y(float(buckets.min[k]))
        strokes.append(f"M{x:.1f} {top:.1f}V{bottom:.1f}")
    if strokes:
        yield Markup('<path class="band" d="{}"/>').format("".join(strokes))


def _line(panel: _Panel, buckets: Buckets, finite: np.ndarray) -> Iterator[Markup]:
    """The mean of each bucket; a gap where there is none."""
    path, dots, pen = [], [], "M"
    for k in range(len(buckets)):
        if not finite[k]:
            pen = "M"
            continue
        x = panel.x((int(buckets.first_step[k]) + int(buckets.last_step[k])) / 2)
        y = panel.y(float(buckets.mean[k]))
        path.append(f"{pen}{x:.1f} {y:.1f}")
        alone = (k == 0 or not finite[k - 1]) and (k + 1 == len(buckets) or not finite[k + 1])
        if alone:
            dots.append(Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="2"/>').format(x, y))
        pen = "L"
    yield Markup('<path class="line" d="{}"/>').format("".join(path))
    yield from dots


def _marks(panel: _Panel, buckets: Buckets) -> Iterator[Markup]:
    for step, kind in zip(
        buckets.nonfinite_steps[:MARKS].tolist(), buckets.nonfinite_kinds[:MARKS].tolist(), strict=True
    ):
        x, y = panel.x(step), HEIGHT - BOTTOM
        yield Markup('<path class="odd" d="M{:.1f} {}l5 9h-10z"><title>{} at step {}</title></path>').format(
            x, y - 9, {"nan": "NaN", "+inf": "+∞", "-inf": "−∞"}[KINDS[kind]], number(step)
        )
