"""Data order against data: orders that point past their chunks, steps no order covers, chunks nobody reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ReadFile, ScanInput
from portal.manifest import Manifest, OrderEntry, StageEntry, orders_of, stages_of

WIDTHS = {"u16": 2, "u32": 4, "i32": 4, "i64": 8, "u64": 8}


def find_order_faults(scanned: ScanInput) -> list[FoundFinding]:
    """What the declared order cannot mean, given the rows its chunks hold."""
    orders = orders_of(scanned.manifest)
    rows = {c.chunk.name: c.chunk.rows for c in scanned.chunks}
    findings = find_short_orders(scanned.manifest, rows, scanned.other_files)
    if orders:
        findings += _uncovered(orders, scanned.release.first_step, scanned.release.last_step)
        findings += _reading(orders, scanned)
    return findings


def find_short_orders(
    manifest: Manifest, rows: Mapping[str, int | None], files: Iterable[ReadFile]
) -> list[FoundFinding]:
    """Orders that need more rows than their chunks (``rows`` by name) hold, or more entries than their file among ``files``."""
    orders, stages, listed = orders_of(manifest), stages_of(manifest), list(files)
    findings = [f for order in orders for f in _past_data(order, stages, rows)]
    return findings + [f for order in orders if order.kind == "index" for f in _short_file(order, stages, listed)]


def short_order_file(order: OrderEntry, entries: int, needed: int) -> FoundFinding:
    """An order file of ``entries``, of which the steps read ``needed`` from its ``start`` on."""
    path = order.file.path if order.file else ""
    return FoundFinding(
        "order-file-short",
        "error",
        f"The order file {path} holds {entries:,} entries; steps {order.first_step:,} to {order.last_step:,} need {order.start + needed:,}.",
        order.first_step,
        {"entries": entries, "needed": order.start + needed, "file": path},
        order.where,
    )


def rows_needed(order: OrderEntry, stages: Sequence[StageEntry]) -> int | None:
    """Rows its steps read, each stage with its own batch; None where a batch size is not known."""
    total = 0
    for stage in stages:
        first, last = max(order.first_step, stage.first_step), min(order.last_step, stage.last_step)
        if first <= last:
            if stage.rows_per_step is None:
                return None
            total += (last - first + 1) * stage.rows_per_step
    return total


def stage_at(step: int, stages: Sequence[StageEntry]) -> StageEntry | None:
    """The stage a step belongs to."""
    return next((s for s in stages if s.first_step <= step <= s.last_step), None)


def _past_data(
    order: OrderEntry, stages: Sequence[StageEntry], rows: Mapping[str, int | None]
) -> Iterator[FoundFinding]:
    needed = rows_needed(order, stages)
    # An index file may name a row again in a later pass: more reads than rows are no contradiction there.
    if order.kind in ("unknown", "index") or needed is None:
        return
    if order.per_chunk and order.steps_per_chunk:
        yield from _past_chunks(order, order.steps_per_chunk, stages, rows)
        return
    held = _sum_of_known([rows.get(name) for name in order.chunks])
    if held is not None and order.start + needed > held:
        yield FoundFinding(
            "order-past-data",
            "error",
            f"Steps {order.first_step:,} to {order.last_step:,} need {order.start + needed:,} rows; their chunks hold {held:,}.",
            order.first_step,
            {"needed": order.start + needed, "held": held, "where": order.where},
            order.where,
        )


def _past_chunks(
    order: OrderEntry, steps_per_chunk: int, stages: Sequence[StageEntry], rows: Mapping[str, int | None]
) -> Iterator[FoundFinding]:
    steps = order.last_step - order.first_step + 1
    if steps > steps_per_chunk * len(order.chunks):
        yield FoundFinding(
            "order-past-data",
            "error",
            f"Steps {order.first_step:,} to {order.last_step:,} need more than the {len(order.chunks):,} chunks listed at {steps_per_chunk:,} steps each.",
            order.first_step,
            {"steps": steps, "chunks": len(order.chunks), "steps_per_chunk": steps_per_chunk},
            order.where,
        )
    batch = stage_at(order.first_step, stages)
    needed = steps_per_chunk * batch.rows_per_step if batch and batch.rows_per_step else 0
    short = [name for name in order.chunks if (held := rows.get(name)) is not None and held < needed]
    if short:
        yield FoundFinding(
            "order-past-data",
            "error",
            f"{len(short):,} chunks hold fewer than the {needed:,} rows that {steps_per_chunk:,} steps read.",
            order.first_step,
            {"chunks": short[:100], "count": len(short), "needed": needed},
            f"{order.where}-rows",
        )


def _short_file(order: OrderEntry, stages: Sequence[StageEntry], files: Sequence[ReadFile]) -> Iterator[FoundFinding]:
    if order.file is None or order.dtype is None:
        return
    needed = rows_needed(order, stages)
    size = next((f.size for f in files if f.path == order.file.path or f.uri == order.file.path), None)
    if needed is None or size is None:
        return
    entries = size // WIDTHS[order.dtype]
    if entries < order.start + needed:
        yield short_order_file(order, entries, needed)


def _uncovered(orders: list[OrderEntry], first_step: int, last_step: int) -> Iterator[FoundFinding]:
    expected = first_step
    for first, last in [*((o.first_step, o.last_step) for o in orders), (last_step + 1, last_step + 1)]:
        if first > expected:
            yield FoundFinding(
                "steps-without-order",
                "warning",
                f"No data order covers steps {expected:,} to {first - 1:,}.",
                expected,
                {"first_step": expected, "last_step": first - 1},
            )
        expected = max(expected, last + 1)


def _reading(orders: list[OrderEntry], scanned: ScanInput) -> Iterator[FoundFinding]:
    named = {name for order in orders for name in order.chunks}
    unread = [c.chunk.name for c in scanned.chunks if c.chunk.name not in named and not c.chunk.skipped]
    if unread:
        yield FoundFinding(
            "chunk-never-read",
            "info",
            f"{len(unread):,} released chunks are read by no step of the order.",
            None,
            {"chunks": unread[:100], "count": len(unread)},
        )
    contradicted = [c.chunk.name for c in scanned.chunks if c.chunk.skipped and c.chunk.name in named]
    if contradicted:
        yield FoundFinding(
            "skipped-chunk-read",
            "warning",
            f"{len(contradicted):,} chunks are declared skipped and still stand in the order.",
            None,
            {"chunks": contradicted[:100], "count": len(contradicted)},
        )


def _sum_of_known(counts: list[int | None]) -> int | None:
    known = [c for c in counts if c is not None]
    return sum(known) if len(known) == len(counts) else None
