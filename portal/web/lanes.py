"""The lanes under the curves, packed small: stages, data, checkpoints and events by step."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from portal.catalog.answers import ChunkRow, Timeline

MISSING, FINDING, OPTIMIZER = 1, 2, 4
"""Flags of a checkpoint."""
SKIPPED, AGAIN = 1, 2
"""Flags of a data span."""


def pack_lanes(timeline: Timeline) -> dict[str, list[Any]]:
    """Every lane as short lists in ascending steps.

    ``stages``: name, first, last. ``data``: name, first, last, flags, number of its mix in ``mixes`` or -1.
    ``checkpoints``: step, label, flags. ``events``: first, last, kind, note. ``mixes``: shares of ``sources``, by the
    source's number, largest first. What has no step is not on an axis and left to the tables.
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
        **_data(timeline.chunks),
        "checkpoints": sorted(checkpoints, key=lambda c: c[0]),
        "events": sorted(events, key=lambda e: e[0]),
    }


Mix = tuple[tuple[str, float], ...]


def _data(chunks: list[ChunkRow]) -> dict[str, list[Any]]:
    """Spans in ascending steps; chunks that one order mixes over the same steps share a bar, and a mix if it is one."""
    spans: dict[tuple[int, int], list[tuple[str, int, Mix]]] = defaultdict(list)
    for chunk in chunks:
        mix = tuple(sorted(chunk.sources.items(), key=lambda share: (-share[1], share[0])))
        for span in chunk.spans:
            flags = SKIPPED * chunk.skipped | AGAIN * (span.repeat > 0)
            spans[span.first_step, span.last_step].append((chunk.name, flags, mix))
    mixes: dict[Mix, int] = {}
    packed = []
    for (first, last), members in sorted(spans.items()):
        alone = len(members) == 1
        name = members[0][0] if alone else f"{len(members):,} chunks in one order"
        shared = {mix for _, _, mix in members}
        mix = shared.pop() if len(shared) == 1 else ()
        number = mixes.setdefault(mix, len(mixes)) if mix else -1
        packed.append([name, first, last, members[0][1] if alone else 0, number])
    totals: dict[str, float] = defaultdict(float)
    for mix in mixes:
        for source, share in mix:
            totals[source] += share
    sources = sorted(totals, key=lambda source: (-totals[source], source))
    number_of = {source: k for k, source in enumerate(sources)}
    shares = [[[number_of[source], share] for source, share in mix] for mix in mixes]
    return {"data": packed, "mixes": shares, "sources": sources}
