"""Small SVG drawings made on the server: the step axis of a pair, and a curve of evaluation results."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from portal.catalog.answers import CheckpointView, Pair, RunDetail
from portal.web.filters import metric, number, percent

_LEFT, _MIDDLE, _RIGHT = 70, 360, 650


def draw_pair(pair: Pair) -> Markup:
    """Checkpoints on a line of steps, with what each side reads; the chosen data is filled.

    Not to scale: the distances between neighbours do not matter here, their order does.
    """
    point = pair.checkpoint
    step = point.step if point.step is not None else pair.step
    before = point.previous.step if point.previous else 0
    after = point.next.step if point.next else pair.data.last_step
    chosen = pair.data.direction
    parts = [
        _span(_LEFT + 10, _MIDDLE - 10, f"{number(before + 1)} – {number(step)}", "previous", chosen),
        _span(_MIDDLE + 10, _RIGHT - 10, f"{number(step + 1)} – {number(max(after, step + 1))}", "next", chosen),
        Markup('<line x1="20" x2="700" y1="62" y2="62" class="base"/>'),
        _dot(_LEFT, number(before), "checkpoint before" if point.previous else "start", strong=False),
        _dot(_MIDDLE, number(step), point.labels[0] if point.labels else "checkpoint", strong=True),
        _dot(_RIGHT, number(after), "checkpoint after" if point.next else "end", strong=False),
    ]
    if chosen == "batch" or (pair.data.first_step, pair.data.last_step) not in {(before + 1, step), (step + 1, after)}:
        parts.append(_chosen_part(pair, before, step, after))
    label = f"Checkpoint at step {number(step)}; chosen data: steps {number(pair.data.first_step)} to {number(pair.data.last_step)}"
    return Markup('<svg class="axis wide" viewBox="0 0 720 118" role="img" aria-label="{}">{}</svg>').format(
        label, Markup("").join(parts)
    )


def draw_position(view: CheckpointView, detail: RunDetail) -> Markup:
    """A bar of the whole run: its stages, what was read by this checkpoint, and the neighbours' places.

    Empty for a checkpoint without a step. Stretches to any width, so it holds no text.
    """
    last = max(detail.summary.last_step or 0, view.step or 0)
    if view.step is None or not last:
        return Markup("")

    def x(step: int) -> float:
        return round(min(step / last, 1.0) * 1000, 2)

    stages = [(s.first_step - 1, s.last_step, s.name) for s in detail.stages] or [(0, last, "the run")]
    parts = [
        Markup('<rect x="{}" y="4" width="{}" height="6" class="{}"><title>{}: steps {} to {}</title></rect>').format(
            x(begin), max(x(end) - x(begin) - (2 if end < last else 0), 1), "stage" if k % 2 == 0 else "stage alt",
            name, number(begin + 1), number(end),
        )
        for k, (begin, end, name) in enumerate(stages)
    ]  # fmt: skip
    parts.append(Markup('<rect x="0" y="4" width="{}" height="6" class="tip"/>').format(x(view.step)))
    for neighbour in (view.previous, view.next):
        if neighbour is not None:
            parts.append(
                Markup('<rect x="{}" y="0" width="2" height="14" class="near"/>').format(x(neighbour.step) - 1)
            )
    parts.append(Markup('<rect x="{}" y="0" width="4" height="14" class="here"/>').format(min(x(view.step), 996)))
    return Markup(
        '<svg class="axis bar" viewBox="0 0 1000 14" preserveAspectRatio="none" role="img" '
        'aria-label="Step {} of {}, {} of the run">{}</svg>'
    ).format(number(view.step), number(last), percent(view.step / last), Markup("").join(parts))


def draw_curve(points: Sequence[tuple[int, float]], unit: str = "step") -> Markup:
    """Values over steps as a line with a dot per result, 720 by 190; empty below two points."""
    if len(points) < 2:
        return Markup("")
    steps, values = [p[0] for p in points], [p[1] for p in points]
    low, high = min(values), max(values)
    span, width = (high - low) or abs(high) or 1.0, max(steps[-1] - steps[0], 1)
    places = [(round(64 + (s - steps[0]) / width * 636, 1), round(150 - (v - low) / span * 130, 1)) for s, v in points]
    line = " ".join(f"{x},{y}" for x, y in places)
    dots = Markup("").join(
        Markup('<circle cx="{}" cy="{}" r="{}"><title>{} {}: {}</title></circle>').format(
            x, y, 2.6 if len(points) < 80 else 1.7, unit, number(s), metric(v)
        )
        for (x, y), (s, v) in zip(places, points, strict=True)
    )
    return Markup(
        '<svg class="axis curve" viewBox="0 0 720 190" role="img" aria-label="{} results from {} {} to {}, values {} to {}">'
        '<line x1="64" x2="700" y1="150" y2="150" class="base"/>'
        '<text x="56" y="24" text-anchor="end">{}</text><text x="56" y="153" text-anchor="end">{}</text>'
        '<text x="64" y="172">{} {}</text><text x="700" y="172" text-anchor="end">{}</text>'
        '<polyline points="{}"/>{}</svg>'
    ).format(
        len(points), unit, number(steps[0]), number(steps[-1]), metric(low), metric(high),
        metric(high), metric(low), unit, number(steps[0]), number(steps[-1]), line, dots,
    )  # fmt: skip


def _span(left: int, right: int, text: str, kind: str, chosen: str) -> Markup:
    says = {"previous": "what it had just read", "next": "what it reads next"}[kind]
    return Markup(
        '<rect x="{}" y="40" width="{}" height="22" rx="3" class="{}"/>'
        '<text x="{}" y="14" text-anchor="middle" class="{}">{}</text><text x="{}" y="31" text-anchor="middle">steps {}</text>'
    ).format(
        left, right - left, "span" if kind == chosen else "ghost",
        (left + right) // 2, "strong" if kind == chosen else "", says, (left + right) // 2, text,
    )  # fmt: skip


def _dot(x: int, step: str, label: str, strong: bool) -> Markup:
    shown = label if len(label) <= 24 else label[:23] + "…"
    return Markup(
        '<circle cx="{x}" cy="62" r="7" class="dot{other}"/><text x="{x}" y="90" text-anchor="middle" class="{weight}">{label}</text>'
        '<text x="{x}" y="107" text-anchor="middle">step {step}</text>'
    ).format(x=x, other="" if strong else " other", weight="strong" if strong else "", label=escape(shown), step=step)


def _chosen_part(pair: Pair, before: int, step: int, after: int) -> Markup:
    """The chosen steps where they are not a whole side, placed proportionally inside their side."""

    def place(at: float) -> float:
        if at <= step:
            return _LEFT + 10 + (at - before) / max(step - before, 1) * (_MIDDLE - _LEFT - 20)
        return _MIDDLE + 10 + min((at - step) / max(after - step, 1), 1.0) * (_RIGHT - _MIDDLE - 20)

    left = (
        max(place(pair.data.first_step - 1), _LEFT + 10)
        if pair.data.first_step > step
        else place(pair.data.first_step - 1)
    )
    if pair.data.first_step == step + 1:
        left = _MIDDLE + 10
    right = max(place(pair.data.last_step), left + 4)
    return Markup('<rect x="{}" y="44" width="{}" height="14" rx="2" class="tip"/>').format(
        round(left, 1), round(right - left, 1)
    )
