"""The pages of an exported bundle: they open from a plain folder, without a server, script or network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from portal.catalog.answers import SeriesView
from portal.client.bundled import Bundle, BundledFile
from portal.exchange.bundle.collect import Collected
from portal.exchange.bundle.export import INDEX, OWN, series_path
from portal.metrics.buckets import KINDS, Buckets
from portal.web.assets import static_folder
from portal.web.bundles import bundle_style
from portal.web.curves import draw_curve
from portal.web.render import load_environment, templates_folder
from portal.web.timeline import DRAWN_AT_FIRST

BUCKETS = 440
FIRST = 4
"""Curves on the first page; the others are on their own."""
MOST = 400
"""Curves drawn in all."""
LISTED = 20
"""Steps listed of values that are not finite."""


@dataclass(frozen=True)
class DrawnSeries:
    """A series with its picture."""

    view: SeriesView
    file: str
    picture: Markup | None
    raw: bool
    """Whether every point is drawn, and none stands for several."""
    odd: list[tuple[int, str]]
    """Step and kind of the first values that are not finite."""


def bundle_pages(run: Collected, bundle: Bundle) -> Mapping[str, bytes]:
    """Every page of a bundle and its style sheet, by path."""
    series = _series(run)
    context: dict[str, Any] = {
        "detail": run.detail,
        "summary": run.detail.summary,
        "bundle": bundle,
        "own": OWN,
        "foremost": series[:FIRST],
        "series": series,
        "undrawn": sum(1 for s in series if s.picture is None),
        "checkpoints": [(c.row, _listed(run, bundle, c.id, None)) for c in run.facts.checkpoints],
        "chunks": [(c.row, _listed(run, bundle, None, c.id)) for c in run.facts.chunks.values()],
        "orders": run.facts.orders.all,
        "configs": run.facts.configs,
        "events": run.facts.events,
        "findings": run.facts.findings,
        "evaluations": run.evaluations,
        "signatures": sorted(run.signatures),
        "href": _href,
    }
    pages = {INDEX: _render("index", context, "")}
    for name in ("metrics", "checkpoints", "data", "configs", "events", "findings", "evaluations", "files"):
        pages[f"{OWN}{name}.html"] = _render(name, context, "../")
    pages[f"{OWN}portal.css"] = _style()
    return pages


def _render(name: str, context: Mapping[str, Any], up: str) -> bytes:
    template = load_environment().get_template(f"bundle/{name}.html")
    # The run's name and other people's text may hold anything that cannot be written as UTF-8.
    return template.render(context, up=up, page=name).encode("utf-8", "backslashreplace")


def _href(path: str) -> str:
    """A path of the bundle as a link: what a name holds never acts in an address."""
    return quote(path, safe="/")


def _style() -> bytes:
    own = (templates_folder() / "bundle" / "bundle.css").read_text("utf-8")
    return (bundle_style(static_folder() / "css", "portal") + "\n" + own).encode()


def _listed(run: Collected, bundle: Bundle, checkpoint: int | None, chunk: int | None) -> list[BundledFile]:
    by_path = {(f.path, f.role): f for f in bundle.files}
    return [by_path[(f.path, f.role)] for f in run.files_of(checkpoint, chunk)]


def _series(run: Collected) -> list[DrawnSeries]:
    """Those that are looked at first in front, training before evaluations before machines."""
    drawn = []
    first, last = run.facts.head.first_step, run.facts.head.last_step
    for number, one in enumerate(run.series()):
        buckets = one.numbers.query(buckets=BUCKETS) if one.numbers is not None else None
        picture = None
        if buckets is not None and len(buckets) and number < MOST:
            picture = draw_curve(
                one.view.name,
                one.view.unit,
                buckets,
                min(first, one.view.first_step or first),
                max(last, one.view.last_step or last),
            )
        drawn.append(
            DrawnSeries(
                one.view,
                series_path(number, one.view.name),
                picture,
                buckets is not None and buckets.raw,
                _odd(buckets),
            )
        )
    return sorted(drawn, key=_rank)


def _rank(series: DrawnSeries) -> tuple[int, int]:
    patterns: Sequence[Any] = DRAWN_AT_FIRST
    fits = next((k for k, pattern in enumerate(patterns) if pattern.search(series.view.name)), len(patterns))
    groups = {"train": 0, "": 0, "eval": 1}
    return (fits if series.view.group != "eval" else len(patterns), groups.get(series.view.group, 2))


def _odd(buckets: Buckets | None) -> list[tuple[int, str]]:
    if buckets is None:
        return []
    names = {"nan": "NaN", "+inf": "+∞", "-inf": "−∞"}
    pairs = zip(buckets.nonfinite_steps[:LISTED].tolist(), buckets.nonfinite_kinds[:LISTED].tolist(), strict=True)
    return [(step, names[KINDS[kind]]) for step, kind in pairs]
