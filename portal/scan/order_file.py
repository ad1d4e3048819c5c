"""Published order files that are here: whether every row they name exists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ReadFile
from portal.errors import DataFault, PortalError
from portal.manifest import Manifest, OrderEntry, StageEntry, orders_of, stages_of
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.blobs import is_here
from portal.tokens.readers import OrderFile, ReadableFile, open_order_file

AT_ONCE = 1 << 20
"""Entries that are looked at together."""


def find_order_file_faults(
    manifest: Manifest, rows: Mapping[str, int | None], files: Iterable[ReadFile], settings: Settings
) -> list[FoundFinding]:
    """Order files that cannot be read, or name rows their chunks (``rows`` by name) do not hold."""
    here = {f.path: f for f in files if is_here(f.uri, settings) and f.state != "missing"}
    stages = stages_of(manifest)
    return [
        finding
        for order in orders_of(manifest)
        if order.kind == "index" and order.file is not None and order.file.path in here
        for finding in _check(order, stages, rows, here[order.file.path], settings)
    ]


def _check(
    order: OrderEntry,
    stages: Sequence[StageEntry],
    rows: Mapping[str, int | None],
    file: ReadFile,
    settings: Settings,
) -> Iterator[FoundFinding]:
    counts = [rows.get(name) for name in order.chunks]
    total = None if order.per_chunk or None in counts else sum(count or 0 for count in counts)
    readable = ReadableFile(file.path, file.uri, file.size, file.sha256, open_store(file.uri, settings))
    try:
        opened = open_order_file(order, readable)
        bad = None if total is None else _first_outside(opened, order.start, total)
        opened.close()
    except DataFault as error:
        message = f"The order file {file.path} cannot be read: {error}"
        yield FoundFinding("order-unreadable", "error", message, order.first_step, {"file": file.path}, order.where)
        return
    except PortalError:
        return  # whether a file is still there is a question of `fixity`
    if bad is None or total is None:
        return
    position, entry = bad
    batch = next((s.rows_per_step for s in stages if s.first_step <= order.first_step <= s.last_step), None)
    step = order.first_step + (position - order.start) // batch if batch else order.first_step
    if step <= order.last_step:
        yield FoundFinding(
            "order-outside-data",
            "error",
            f"Entry {position:,} of the order file {file.path}, read at step {step:,}, names row {entry:,}; its chunks hold {total:,}.",
            step,
            {"file": file.path, "position": position, "row": entry, "rows": total},
            order.where,
        )


def _first_outside(opened: OrderFile, start: int, total: int) -> tuple[int, int] | None:
    """Position and value of the first entry from ``start`` on that names no row."""
    for begin in range(start, opened.entries, AT_ONCE):
        entries = opened(begin, AT_ONCE)
        outside = np.flatnonzero((entries < 0) | (entries >= total))
        if len(outside):
            return begin + int(outside[0]), int(entries[outside[0]])
    return None
