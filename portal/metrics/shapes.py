"""The parts of a figure that hold no numbers, made and checked by plotly once and kept.

``plotly`` checks every property it is given, which takes milliseconds a trace and half a second the first time. What
changes from request to request are only arrays and ranges, so those are filled into kept shapes (see ``charts``), in the
form plotly itself gives typed arrays: ``{"dtype", "bdata"}``. Plotly is imported when the first figure is made.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

COLOURS = ("#2f7fc1", "#c8641b", "#0a8f6c", "#a5579b", "#8a7a12", "#5b6ee1", "#b8434e", "#4d8a9e")
"""At least 3:1 against the light and the dark page, apart for the common colour-blindnesses."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "9px 2px 2px 2px", "2px 5px")
"""One per curve of a panel, so that curves differ without their colours too."""
ALARM = "#d1435b"
HEAD, BODY, GAP, FOOT, LEFT, RIGHT = 30, 172, 10, 30, 78, 16
"""Pixels: title row and drawing of a panel, space between panels, room for the x axis and at the sides."""
_SYMBOLS = {"nan": "triangle-up", "+inf": "triangle-up-open", "-inf": "triangle-down-open"}

Shape = dict[str, Any]


@lru_cache(maxsize=256)
def line_shape(curve: int, colour: str, dots: bool) -> Shape:
    """The line through the means; with ``dots`` every point is marked, as few and far between ones should be."""
    drawn = {"color": colour, "width": 1.4, "dash": DASHES[curve % len(DASHES)]}
    marks: Shape = {"marker": {"color": colour, "size": 6, "symbol": "circle"}} if dots else {}
    return _scatter(mode="lines+markers" if dots else "lines", line=drawn, connectgaps=False, **marks)


@lru_cache(maxsize=64)
def band_shape(colour: str, alone: bool) -> Shape:
    """Min to max as filled outlines; fainter where it is not ``alone`` in its panel."""
    edge = {"color": _faded(colour, 0.55 if alone else 0.4), "width": 0.6}
    return _scatter(
        name="min to max", mode="lines", fill="toself", fillcolor=_faded(colour, 0.28 if alone else 0.15), line=edge
    )


@lru_cache(maxsize=64)
def point_shape(colour: str) -> Shape:
    """Points between two gaps, which no line reaches."""
    return _scatter(mode="markers", marker={"color": colour, "size": 4})


@lru_cache(maxsize=1)
def spike_shape() -> Shape:
    """Diamonds at spikes."""
    return _scatter(name="spikes", mode="markers", marker={"symbol": "diamond-open", "size": 8, "color": ALARM})


@lru_cache(maxsize=8)
def nonfinite_shape(kind: str) -> Shape:
    """Triangles at NaN (filled) and infinities (open, pointing where they went)."""
    mark = {"symbol": _SYMBOLS[kind], "size": 10, "color": ALARM}
    return _scatter(name=kind, mode="markers", cliponaxis=False, marker=mark)


@lru_cache(maxsize=128)
def layout_shape(panels: int, log: bool, x: str) -> Shape:
    """Everything but the range of the x axis. Shared: copy before changing."""
    from plotly.graph_objects import Layout  # noqa: PLC0415 - commands that draw nothing should not wait for it

    height = panels * (HEAD + BODY) + max(panels - 1, 0) * GAP
    axes = {("yaxis" if k == 0 else f"yaxis{k + 1}"): _y_axis(panel_top(k), height, log) for k in range(panels)}
    made: Shape = Layout(
        height=height + FOOT,
        margin={"l": LEFT, "r": RIGHT, "t": 0, "b": FOOT},
        showlegend=False,
        hovermode=False,
        dragmode="zoom",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        xaxis=_x_axis(panels, x),
        **axes,
    ).to_plotly_json()
    return made


def warm_up() -> None:
    """Import plotly and make the usual shapes, so that the first reader does not wait for them."""
    layout_shape(3, False, "step")
    for colour in COLOURS[:3]:
        line_shape(0, colour, False)
        band_shape(colour, True)
    spike_shape()
    nonfinite_shape("nan")


def panel_top(index: int) -> int:
    """Pixels from the top of the figure to a panel's title row."""
    return index * (HEAD + BODY + GAP)


def _scatter(**properties: Any) -> Shape:
    from plotly.graph_objects import Scatter  # noqa: PLC0415 - as above

    made: Shape = Scatter(**properties, xaxis="x", hoverinfo="skip").to_plotly_json()
    return made


def _x_axis(panels: int, x: str) -> Shape:
    # Plotly's SI prefix for 10^9 is G; "B" writes billions as every paper does.
    numbers = {"tickformat": ",d"} if x == "step" else {"exponentformat": "B", "separatethousands": True}
    return numbers | {
        "anchor": "y" if panels < 2 else f"y{panels}",
        "nticks": 9,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
    }


def _y_axis(top: int, height: int, log: bool) -> Shape:
    return {
        "domain": [max(1 - (top + HEAD + BODY) / height, 0.0), 1 - (top + HEAD) / height],
        "anchor": "x",
        "type": "log" if log else "linear",
        "fixedrange": True,
        "nticks": 5,
        "zeroline": False,
        "automargin": False,
        "exponentformat": "e",
    }


def _faded(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
