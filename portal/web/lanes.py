"""The lanes under the curves, packed small: stages, data, checkpoints and events by step."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from portal.catalog.answers import ChunkRow, Timeline

MISSING, FINDING, OPTIMIZER = 1, 2, 4
"""Flags of a checkpoint."""
SKIPPED, AGAIN = 1, 2
"""Flags of a data span."""


def pack_lanes(timeline: Timeline) -> dict[str, list[list[Any]]]:
    """Every lane as short lists in ascending steps.

    ``stages``: name, first, last. ``data``: name, first, last, flags. ``checkpoints``: step, label, flags.
    ``events``: first, last, kind, note. What has no step is not on an axis and left to the tables.
    """
    shown = {c.step for c in timeline.checkpoints if c.step is not None}
    events = [
        [e.step, e.last_step if e.last_step is not None else e.step, e.kind, e.note]
        for e in timeline.events
        if e.step is not None
    ]
    # A finding at a checkpoint colours its mark; one elsewhere gets a mark of its own.
    events += [
        [f.step, f.step, "finding", f.message] for f in timeline.findings if f.step is not None and f.step not in shown
    ]
    checkpoints = [
        [
            c.step,
            c.labels[0] if c.labels else f"step {c.step}",
            MISSING * c.missing | FINDING * bool(c.findings) | OPTIMIZER * ("optimizer" in c.contains),
        ]
        for c in timeline.checkpoints
        if c.step is not None
    ]
    return {
        "stages": [[s.name, s.first_step, s.last_step] for s in timeline.stages],
        "data": _data(timeline.chunks),
        "checkpoints": sorted(checkpoints, key=lambda c: c[0]),
        "events": sorted(events, key=lambda e: e[0]),
    }


def _data(chunks: list[ChunkRow]) -> list[list[Any]]:
    """Spans in ascending steps; chunks that one order mixes over the same steps share a bar."""
    spans: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    for chunk in chunks:
        for span in chunk.spans:
            flags = SKIPPED * chunk.skipped | AGAIN * (span.repeat > 0)
            spans[span.first_step, span.last_step].append((chunk.name, flags))
    packed = []
    for (first, last), members in sorted(spans.items()):
        name = members[0][0] if len(members) == 1 else f"{len(members):,} chunks in one order"
        packed.append([name, first, last, members[0][1] if len(members) == 1 else 0])
    return packed
