"""The drawing of a run's lineage: ancestors on the left, descendants on the right, its data below."""

from __future__ import annotations

from markupsafe import Markup

from portal.catalog.answers import Lineage, RunDetail
from portal.web.filters import number, short

WIDTH, HEIGHT = 250, 46
ACROSS, DOWN = 306, 62
MAX_CHILDREN = 14
_NAME = 27
"""Characters that fit into a box."""


def draw_family(lineage: Lineage, detail: RunDetail) -> Markup:
    """Boxes that are links, joined by lines; what is said here stands below it as text."""
    parents, children = lineage.parents[::-1], lineage.children[:MAX_CHILDREN]
    more = len(lineage.children) - len(children)
    rows = max(len(children) + (1 if more else 0), 1)
    middle = 10 + (rows - 1) * DOWN // 2
    here = 10 + len(parents) * ACROSS
    parts = [
        _box(10 + k * ACROSS, middle, p["run"], _from(p["step"], "left at"), f"/runs/{p['run']}" if p["known"] else "")
        for k, p in enumerate(parents)
    ]
    parts += [_line(10 + k * ACROSS + WIDTH, middle, 10 + (k + 1) * ACROSS, middle) for k in range(len(parents))]
    for k, child in enumerate(children):
        y = 10 + k * DOWN
        parts.append(_line(here + WIDTH, middle, here + ACROSS, y))
        says = f"{child['kind']}{', ' if child['step'] is not None else ''}{_from(child['step'], 'from')}"
        parts.append(_box(here + ACROSS, y, child["run"], says, f"/runs/{child['run']}"))
    if more:
        y = 10 + len(children) * DOWN
        parts.append(Markup('<text x="{}" y="{}">and {} more, listed below</text>').format(here + ACROSS, y + 26, more))
    parts.append(_box(here, middle, lineage.run, _size(detail), "", "here"))
    if detail.summary.chunks:
        y = middle + DOWN + 14
        tokens = f", {short(detail.summary.tokens)} tokens" if detail.summary.tokens else ""
        chunks = f"{number(detail.summary.chunks)} {'chunk' if detail.summary.chunks == 1 else 'chunks'}{tokens}"
        parts.append(_line(here + WIDTH // 2, y, here + WIDTH // 2, middle + HEIGHT, upright=True))
        parts.append(_box(here, y, "its data", chunks, f"/runs/{lineage.run}/chunks", "data"))
    width = here + WIDTH + (ACROSS if children else 0) + 10
    height = max(rows * DOWN, middle + (2 * DOWN + 14 if detail.summary.chunks else DOWN)) + 6
    return Markup(
        '<svg class="axis family" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="group" aria-label="Lineage drawn">{2}</svg>'
    ).format(width, height, Markup("").join(parts))


def _box(x: int, y: int, name: str, says: str, address: str, kind: str = "") -> Markup:
    # The end of a name tells siblings apart, its beginning the family.
    shown = name if len(name) <= _NAME else f"{name[: _NAME // 2 - 2]}…{name[-(_NAME // 2 + 1) :]}"
    box = Markup(
        '<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" class="box {kind}"/><title>{name}</title>'
        '<text x="{tx}" y="{t1}" class="strong">{shown}</text><text x="{tx}" y="{t2}">{says}</text>'
    ).format(
        x=x, y=y, w=WIDTH, h=HEIGHT, kind=kind, name=name, tx=x + 12, t1=y + 19, t2=y + 36, shown=shown, says=says
    )  # fmt: skip
    return Markup('<a href="{}">{}</a>').format(address, box) if address else Markup("<g>{}</g>").format(box)


def _line(x1: int, y1: int, x2: int, y2: int, upright: bool = False) -> Markup:
    if upright:
        return Markup('<path d="M{} {}L{} {}" class="base"/>').format(x1, y1, x2, y2)
    a, b, half = y1 + HEIGHT // 2, y2 + HEIGHT // 2, (x1 + x2) // 2
    return Markup('<path d="M{} {}C{} {} {} {} {} {}" class="base"/>').format(x1, a, half, a, half, b, x2, b)


def _from(step: int | None, word: str) -> str:
    return f"{word} step {number(step)}" if step is not None else ""


def _size(detail: RunDetail) -> str:
    parts = [f"{short(detail.summary.parameters)} parameters"] if detail.summary.parameters else []
    parts += [f"{number(detail.summary.last_step)} steps"] if detail.summary.last_step else []
    return ", ".join(parts)
