"""A checkpoint with its data: what it reads next, what it read before, or one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col

from portal.catalog.answers import FileView, OrderView, Pair, PairChunk, PairData
from portal.catalog.checkpoints import checkpoint_view, no_checkpoint
from portal.catalog.facts import CheckpointFact, OrderFact, ReleaseFacts
from portal.catalog.files import FileRow, Links, load_files
from portal.catalog.openness import CONFIDENCES
from portal.catalog.release import load_facts
from portal.errors import BadRequest
from portal.models import File
from portal.settings import Settings

DIRECTIONS = ("next", "previous", "batch")
MANY_CHUNKS = 500


@dataclass(frozen=True)
class _Interval:
    """Steps ``first..last`` that a checkpoint reads or read."""

    checkpoint: CheckpointFact
    first: int
    last: int


def get_pair(
    session: Session, settings: Settings, run: str, step: int, data: str = "next", steps: int | None = None
) -> Pair:
    """The pair at ``step``.

    ``next``: the checkpoint at or before the step, with the rows of the steps after it up to the next
    checkpoint, or of ``steps`` steps. ``previous``: the same checkpoint with the rows since the
    checkpoint before it, or of the ``steps`` steps that end with it. ``batch``: the rows of the step
    itself, with the checkpoint before the step, whose state (or a later one) read them.
    """
    facts = load_facts(session, run)
    facts.check_step(step)
    interval = _interval(facts, step, data, steps)
    links = Links.of(settings)
    checkpoint = checkpoint_view(session, facts, interval.checkpoint, links)
    half = _data(session, facts, data, interval, links)
    files = _once([*checkpoint.files, *(f for c in half.chunks for f in c.files), *half.order_files])
    return Pair(
        run=run,
        version=facts.head.version,
        step=step,
        checkpoint=checkpoint,
        data=half,
        files=files,
        total_bytes=sum(f.size for f in files if f.size is not None),
        unknown_sizes=sum(f.size is None for f in files),
        unhashed=sum(f.sha256 is None for f in files),
    )


def _interval(facts: ReleaseFacts, step: int, data: str, steps: int | None) -> _Interval:
    if data not in DIRECTIONS:
        raise BadRequest(f"data is {data[:50]!r}.", f"Use one of {', '.join(DIRECTIONS)}.", parameter="data")
    if steps is not None and steps < 1:
        raise BadRequest(
            f"steps is {steps}; at least 1 is needed.",
            "Leave it out to reach the neighbouring checkpoint.",
            parameter="steps",
        )
    if data == "batch":
        return _batch(facts, step, steps)
    checkpoint = _holder(facts, step, step)
    return (_next if data == "next" else _previous)(facts, checkpoint, steps)


def _batch(facts: ReleaseFacts, step: int, steps: int | None) -> _Interval:
    if steps not in (None, 1):
        raise BadRequest("A batch is one step.", "Use data=next or data=previous with `steps`.", parameter="steps")
    if step == 0:
        raise BadRequest(
            "Step 0 is the initial model: it read no batch.", "Ask for data=next, or for step 1.", nearest=[1]
        )
    return _Interval(_holder(facts, step - 1, step), step, step)


def _holder(facts: ReleaseFacts, at_or_before: int, step: int) -> CheckpointFact:
    found = facts.checkpoint_before(at_or_before)
    if found is None:
        raise no_checkpoint(
            facts,
            step,
            f"{facts.run} released no checkpoint {'before' if at_or_before < step else 'at or before'} step {step}.",
        )
    return found


def _next(facts: ReleaseFacts, checkpoint: CheckpointFact, steps: int | None) -> _Interval:
    here, end = checkpoint.row.step or 0, facts.last_step
    if here >= end:
        raise BadRequest(
            f"{facts.run} ends at step {end}: nothing is read after it.", "Ask for data=previous.", nearest=[end]
        )
    if steps is None:
        following = facts.checkpoint_after(here)
        return _Interval(checkpoint, here + 1, following.row.step or end if following else end)
    if here + steps > end:
        raise BadRequest(
            f"Only {end - here} steps follow step {here}, not {steps}.",
            f"Ask for steps={end - here}.",
            parameter="steps",
        )
    return _Interval(checkpoint, here + 1, here + steps)


def _previous(facts: ReleaseFacts, checkpoint: CheckpointFact, steps: int | None) -> _Interval:
    here = checkpoint.row.step or 0
    if here == 0:
        raise BadRequest("Step 0 is the initial model: it read nothing before.", "Ask for data=next.", nearest=[0])
    if steps is None:
        before = facts.checkpoint_before(here - 1)
        return _Interval(checkpoint, (before.row.step or 0) + 1 if before else max(facts.head.first_step, 1), here)
    if steps > here:
        raise BadRequest(
            f"Only {here} steps lie before the end of step {here}, not {steps}.",
            f"Ask for steps={here}.",
            parameter="steps",
        )
    return _Interval(checkpoint, here - steps + 1, here)


def _data(session: Session, facts: ReleaseFacts, direction: str, interval: _Interval, links: Links) -> PairData:
    first, last = interval.first, interval.last
    before, after = facts.tokens_after(first - 1), facts.tokens_after(last)
    orders = facts.orders.over(first, last)
    return PairData(
        direction=direction,
        first_step=first,
        last_step=last,
        rows=facts.rows_between(first, last),
        tokens=None if before is None or after is None else after - before,
        order=_weakest(orders, first, last),
        chunks=_chunks(session, facts, orders, (first, last), links),
        order_files=_order_files(facts, orders, links),
    )


def _weakest(orders: Sequence[OrderFact], first: int, last: int) -> OrderView:
    covered = sum(min(o.last_step, last) - max(o.first_step, first) + 1 for o in orders)
    if covered < last - first + 1:
        lacking = last - first + 1 - max(covered, 0)
        return OrderView(
            "unknown", "unknown", "", f"No data order is recorded for {lacking} of these {last - first + 1} steps."
        )
    return max((o.view for o in orders), key=lambda v: CONFIDENCES.index(v.confidence))


def _chunks(
    session: Session, facts: ReleaseFacts, orders: Sequence[OrderFact], steps: tuple[int, int], links: Links
) -> list[PairChunk]:
    first, last = steps
    spans: dict[str, tuple[int, int]] = {}
    for span in facts.spans.over(first, last):
        begin, end = max(span.first_step, first), min(span.last_step, last)
        known = spans.get(span.chunk, (begin, end))
        spans[span.chunk] = min(known[0], begin), max(known[1], end)
    rows = _rows_by_chunk(facts, orders, first, last)
    files = _chunk_files(session, facts, list(spans))
    return [
        PairChunk(name, [links.file_view(f) for f in files[facts.chunks[name].id]], rows.get(name), begin, end)
        for name, (begin, end) in spans.items()
    ]


def _chunk_files(session: Session, facts: ReleaseFacts, names: list[str]) -> dict[int, list[FileRow]]:
    ids = {facts.chunks[name].id for name in names}
    # Databases bound the number of parameters, so many chunks are read as all chunks.
    condition = col(File.chunk_id).in_(ids) if len(ids) <= MANY_CHUNKS else col(File.chunk_id).is_not(None)
    found: dict[int, list[FileRow]] = defaultdict(list)
    for row in load_files(session, facts.head.id, condition):
        found[row.chunk_id or 0].append(row)
    return found


def _rows_by_chunk(facts: ReleaseFacts, orders: Sequence[OrderFact], first: int, last: int) -> dict[str, int | None]:
    """Rows needed of each chunk; None where only the index or permutation itself would tell."""
    total: dict[str, int | None] = {}
    for order in orders:
        for name, rows in _rows_of_order(
            facts, order, max(first, order.first_step), min(last, order.last_step)
        ).items():
            known = total.get(name, 0)
            total[name] = None if rows is None or known is None else known + rows
    return total


def _rows_of_order(facts: ReleaseFacts, order: OrderFact, first: int, last: int) -> dict[str, int | None]:
    per_step = facts.rows_per_step(order.first_step, last)
    if per_step is None:
        return dict.fromkeys(order.entry.chunks)
    if len(order.entry.chunks) == 1:
        return {order.entry.chunks[0]: (last - first + 1) * per_step}
    if order.entry.per_chunk:
        spans = [s for s in facts.spans.over(first, last) if s.order.id == order.id]
        return {s.chunk: (min(s.last_step, last) - max(s.first_step, first) + 1) * per_step for s in spans}
    if order.view.kind != "sequential":
        return dict.fromkeys(order.entry.chunks)
    begin = order.entry.start + (first - order.first_step) * per_step
    return _rows_in_a_row(facts, order, begin, begin + (last - first + 1) * per_step)


def _rows_in_a_row(facts: ReleaseFacts, order: OrderFact, begin: int, end: int) -> dict[str, int | None]:
    """Rows of each chunk among positions ``begin..end`` of chunks that are read one after another."""
    found: dict[str, int | None] = {}
    start = 0
    for name in order.entry.chunks:
        rows = facts.chunk_rows.get(name)
        if rows is None:
            return dict.fromkeys(order.entry.chunks)
        overlap = min(end, start + rows) - max(begin, start)
        if overlap > 0:
            found[name] = (found.get(name) or 0) + overlap
        start += rows
    return found


def _order_files(facts: ReleaseFacts, orders: Sequence[OrderFact], links: Links) -> list[FileView]:
    paths = dict.fromkeys(o.entry.file.path for o in orders if o.entry.file is not None)
    return [links.file_view(file) for p in paths if (file := facts.loose_file(p))]


def _once(files: Sequence[FileView]) -> list[FileView]:
    """Each path once, whatever the number of chunks or parts that share it."""
    return list({f.path: f for f in files}.values())
