"""Numbers that lie outside the run they are said to measure."""

from __future__ import annotations

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ScanInput


def find_series_outside_run(scanned: ScanInput) -> list[FoundFinding]:
    """Series that begin before step 0 or go on after the last step."""
    last = scanned.release.last_step
    return [
        FoundFinding(
            "series-outside-run",
            "warning",
            f"Series {s.name} goes from step {s.first_step:,} to {s.last_step:,}; the run ends at {last:,}.",
            s.last_step,
            {"series": s.name, "first_step": s.first_step, "last_step": s.last_step, "run_last_step": last},
            s.name,
        )
        for s in scanned.series
        if s.first_step is not None and s.last_step is not None and (s.first_step < 0 or s.last_step > last)
    ]
