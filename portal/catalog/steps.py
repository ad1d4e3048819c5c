"""Everything that lies at one step."""

from __future__ import annotations

import math

from sqlmodel import Session

from portal.catalog.answers import DataAtStep, MetricAtStep, OrderView, StepView
from portal.catalog.configs import config_at
from portal.catalog.facts import OrderFact, ReleaseFacts
from portal.catalog.files import Links, place_in_reach
from portal.catalog.findings import config_view
from portal.catalog.metrics import series_groups
from portal.catalog.reach import why_unreadable
from portal.catalog.release import load_facts
from portal.catalog.runs import stage_view
from portal.errors import OrderUnknown
from portal.settings import Settings
from portal.tokens.orders import explain_order, rows_total

NOTHING_READ = OrderView("unknown", "unknown", "", "Step 0 is the initial model: it read nothing.")
NO_ORDER = OrderView("unknown", "unknown", "", explain_order(None))


def get_step(session: Session, settings: Settings, run: str, step: int) -> StepView:
    """What the run measured, read and saved at ``step``; no query when the run's facts are at hand.

    Step 0 is the initial model. StepNotRecorded names the valid range and the nearest step.
    """
    return step_view(load_facts(session, run), settings, step)


def step_view(facts: ReleaseFacts, settings: Settings, step: int) -> StepView:
    """The answer from facts alone."""
    facts.check_step(step)
    stage = facts.stage_at(step)
    before, at, after = facts.checkpoint_before(step - 1), facts.checkpoint_at(step), facts.checkpoint_after(step)
    config = config_at(facts, step)
    tokens = facts.tokens_after(step)
    return StepView(
        run=facts.run,
        step=step,
        stage=stage_view(stage) if stage else None,
        local_step=stage.local_step(step) if stage else None,
        tokens=tokens if tokens is not None or at is None else at.row.tokens,
        metrics=_metrics_at(facts, settings, step),
        before=before.ref if before else None,
        at=at.ref if at else None,
        after=after.ref if after else None,
        data=data_at(facts, settings, step),
        config=config_view(config, Links.of(settings)) if config else None,
        events=[e.view for e in facts.events_by_step.at(step)],
        findings=facts.findings_by_step.get(step, []),
    )


def data_at(facts: ReleaseFacts, settings: Settings | None, step: int) -> DataAtStep:
    """The data that one step read, as far as it is known."""
    if step == 0:
        return DataAtStep(NOTHING_READ, 0, [], None, False, NOTHING_READ.reason)
    order = order_at(facts, step)
    spans = facts.spans.at(step)
    rows, reason = _batch_rows(facts, order, step)
    names = list(dict.fromkeys(s.chunk for s in spans))
    reason = reason or _out_of_reach(facts, settings, order, names)
    return DataAtStep(
        order=order.view if order else NO_ORDER,
        rows=rows,
        chunks=names,
        span=spans[0].view if spans else None,
        readable=not reason,
        reason=reason,
        elsewhere=not reason and _is_elsewhere(facts, order, names),
    )


def order_at(facts: ReleaseFacts, step: int) -> OrderFact | None:
    """The data order that rules a step."""
    return next(iter(facts.orders.at(step)), None)


def _batch_rows(facts: ReleaseFacts, order: OrderFact | None, step: int) -> tuple[int | None, str]:
    """Rows of the batch, and why they cannot be named where they cannot."""
    stage = facts.stage_at(step)
    usual = stage.rows_per_step if stage else None
    if order is None:
        return usual, NO_ORDER.reason
    if order.view.kind == "unknown" or order.view.confidence in ("chunk", "unknown"):
        return usual, order.view.reason
    if usual is None:
        return None, "How many rows a step reads is not recorded."
    if facts.rows_per_step(order.first_step, step) is None:
        return usual, "The batch size changes inside one data order, so its rows cannot be counted."
    if not _may_be_half(facts, order, usual, step):
        return usual, ""
    try:
        return rows_total(order.entry, usual, facts.chunk_rows, step), ""
    except OrderUnknown as error:
        return None, error.message


def _may_be_half(facts: ReleaseFacts, order: OrderFact, per_step: int, step: int) -> bool:
    """Whether the data, or the chunk where each is read alone, may end inside this step's batch."""
    if not order.entry.per_chunk:
        return step == order.last_step
    span = facts.spans.at(step)[:1]
    if not span or order.entry.start or not order.entry.steps_per_chunk:
        return True
    rows = facts.chunk_rows.get(span[0].chunk)
    return rows is None or (step - span[0].first_step + 1) * per_step > rows


def _is_elsewhere(facts: ReleaseFacts, order: OrderFact | None, names: list[str]) -> bool:
    """Whether the rows of a step, or the index that names them, lie on another server."""
    index = facts.loose_file(order.entry.file.path) if order and order.entry.file else None
    return not facts.at_hand.issuperset(names) or (index is not None and index.local is None)


def _out_of_reach(facts: ReleaseFacts, settings: Settings | None, order: OrderFact | None, names: list[str]) -> str:
    if order is not None and order.entry.file is not None:
        index = facts.loose_file(order.entry.file.path)
        if index is None or place_in_reach(index) is None:
            return f"The index file {order.entry.file.path} is not at hand: this portal holds no copy of it."
    return next(filter(None, (why_unreadable(facts, settings, name) for name in names)), "")


def _metrics_at(facts: ReleaseFacts, settings: Settings, step: int) -> list[MetricAtStep]:
    found: list[MetricAtStep] = []
    for group in series_groups(facts, settings):
        place = int(group.steps.searchsorted(step, "right")) - 1
        # Of several points at one step the last one counts: after a restart it is the one the model contains.
        if place < 0 or group.steps[place] != step:
            continue
        for view, series in group.members:
            value = float(series.values[place])
            shown = value if math.isfinite(value) else None
            found.append(MetricAtStep(view.name, view.group, view.unit, shown, special(value)))
    return found


def special(value: float) -> str | None:
    """The name of a value that JSON cannot write."""
    if math.isfinite(value):
        return None
    return "nan" if math.isnan(value) else "+inf" if value > 0 else "-inf"
