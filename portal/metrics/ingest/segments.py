"""One series from several files: a run that was restarted logs its metrics in segments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from portal.metrics.ingest.assemble import duplicate_notes
from portal.metrics.ingest.table import IngestNote
from portal.metrics.series import SeriesData


def join_segments(series: list[SeriesData]) -> tuple[list[SeriesData], list[IngestNote]]:
    """Join series of the same name, in the order given; all points are kept, sorted by step, stably.

    So where segments overlap, the value at a step is that of the later segment. The first segment's
    definition is kept; ``source`` names all files.
    """
    by_name: dict[str, list[SeriesData]] = {}
    for one in series:
        by_name.setdefault(one.name, []).append(one)
    joined = [parts[0] if len(parts) == 1 else _join(parts) for parts in by_name.values()]
    notes = []
    for one, parts in zip(joined, by_name.values(), strict=True):
        if len(parts) > 1:
            message = f"Series {one.name!r} was joined from {len(parts)} segments: {one.source}."
            notes.append(
                IngestNote("joined-segments", message, {"series": one.name, "segments": [p.source for p in parts]})
            )
            notes += duplicate_notes(one.source, [one])
    return joined, notes


def _join(parts: list[SeriesData]) -> SeriesData:
    steps = np.concatenate([part.steps for part in parts])
    order = steps.argsort(kind="stable")
    values = np.concatenate([part.values for part in parts])[order]
    source = ", ".join(dict.fromkeys(part.source for part in parts))
    return replace(parts[0], steps=steps[order], values=values, source=source)
