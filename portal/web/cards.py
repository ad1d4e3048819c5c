"""What a link to a page shows where it is pasted: one title and one line, from the answers the page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from jinja2 import pass_context
from jinja2.runtime import Context

from portal.catalog.answers import (
    CheckpointRef,
    CheckpointView,
    ChunkView,
    MetricAtStep,
    RunDetail,
    StepView,
)
from portal.catalog.answers.inspected import Inspection
from portal.catalog.answers.moments import Moment
from portal.web.citations import place_of, plain
from portal.web.filters import metric, short
from portal.web.timeline import foremost


@dataclass(frozen=True)
class Card:
    """Title and description of a page."""

    title: str
    description: str


KEPT_IN_ADDRESS = ("step", "row", "t", "v", "q")


def path_of(request: Request) -> str:
    """The path as it was asked, still encoded: names of chunks may hold slashes, question marks and percent signs."""
    raw: bytes = request.scope.get("raw_path") or b""
    return raw.decode("latin-1") or quote(request.scope["path"])


@pass_context
def card(context: Context) -> Card | None:
    """`card_of` the page that is being made."""
    return card_of(context.get_all())


@pass_context
def own_address(context: Context) -> str:
    """The page's absolute address with what says which thing it shows, without how it shows it."""
    request: Request = context["request"]
    portal = request.app.state.desk.settings.public_url or str(request.base_url)
    kept = [(name, value) for name, value in request.query_params.items() if name in KEPT_IN_ADDRESS]
    return portal.rstrip("/") + path_of(request) + (f"?{urlencode(kept)}" if kept else "")


def card_of(page: Mapping[str, Any]) -> Card | None:
    """The card of what a page's template was given; None for pages about no run."""
    detail, moment = page.get("detail"), page.get("moment")
    if isinstance(moment, Moment):
        place = place_of(moment)
        title = f"{moment.run}: {place}" if place else moment.run
        return Card(title, _line([f"as version {moment.version} of the release said it", *_of_moment(moment)]))
    if not isinstance(detail, RunDetail):
        return None
    run, view = detail.summary.run, page.get("view")
    if isinstance(view, StepView):
        return Card(f"Step {view.step:,} of {run}", _line(_of_step(view)))
    if isinstance(view, ChunkView):
        return Card(f"{plain(view.chunk.name)} of {run}", _line(_of_chunk(view)))
    checkpoint, batch = page.get("checkpoint"), page.get("batch")
    if isinstance(checkpoint, CheckpointView):
        return Card(f"{_name(checkpoint)} of {run}", _line(_of_checkpoint(checkpoint)))
    if isinstance(batch, Inspection):
        title = f"Tokens of step {batch.step:,}, row {batch.chosen.position:,} of {run}"
        return Card(title, _line(_of_batch(batch)))
    return Card(f"{run} · {page.get('tab') or 'Timeline'}", _line(_of_run(detail)))


def _line(parts: Iterable[str | None]) -> str:
    return " · ".join(part for part in parts if part)


def _of_step(view: StepView) -> list[str | None]:
    losses = [m for m in foremost(view.metrics) if m.name.rsplit("/", 1)[-1].endswith("loss")]
    return [
        _measured(losses[0]) if losses else None,
        f"{short(view.tokens)} tokens" if view.tokens is not None else None,
        f"checkpoint {_name(view.at)}" if view.at else None,
        f"next checkpoint {_name(view.after)}" if view.after else "no later checkpoint",
        f"order {view.data.order.confidence}" if view.step else None,
    ]


def _of_moment(moment: Moment) -> list[str | None]:
    return _of_step(moment.at) if moment.at else [plain(moment.title)]


def _measured(found: MetricAtStep) -> str:
    return f"loss {metric(found.value, found.special)}"


def _of_chunk(view: ChunkView) -> list[str | None]:
    chunk = view.chunk
    spans: list[str | None] = [f"read in steps {s.first_step:,}–{s.last_step:,}" for s in chunk.spans[:2]]
    return [
        f"{chunk.rows:,} rows" if chunk.rows is not None else None,
        f"{short(chunk.tokens)} tokens" if chunk.tokens is not None else None,
        *(spans or ["skipped: no step read it" if chunk.skipped else None]),
    ]


def _of_checkpoint(view: CheckpointView) -> list[str | None]:
    digest = next((f.sha256 for f in view.files if f.role == "weights" and f.sha256), None)
    return [
        f"state after step {view.step:,}" if view.step is not None else "merged, so it has no step",
        f"{short(view.tokens)} tokens read" if view.tokens is not None else None,
        "missing" if view.missing else None,
        plain(view.dtype) if view.dtype else None,
        f"sha256 {digest[:12]}" if digest else None,
    ]


def _of_batch(batch: Inspection) -> list[str | None]:
    chosen = batch.chosen
    return [
        f"{batch.rows_total:,} rows",
        f"{plain(chosen.chunk)} row {chosen.row:,}",
        plain(chosen.source) if chosen.source else None,
        f"order {batch.order.confidence}",
    ]


def _of_run(detail: RunDetail) -> list[str | None]:
    summary = detail.summary
    return [
        plain(summary.title) if summary.title != summary.run else None,
        "synthetic" if summary.synthetic else None,
        f"{summary.last_step:,} steps" if summary.last_step else None,
        f"{short(summary.tokens)} tokens" if summary.tokens else None,
        f"{summary.checkpoints:,}/{summary.checkpoints_expected:,} checkpoints",
        f"order {summary.order_confidence}",
        f"{sum(summary.openness.values())}/{len(summary.openness)} open",
    ]


def _name(ref: CheckpointRef | CheckpointView) -> str:
    return plain(ref.labels[0]) if ref.labels else f"step {ref.step}"
