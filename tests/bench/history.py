"""``python -m tests.bench history``: entries a second that are added, by one and by eight processes, and that are verified.

Goal: at least 50,000 entries a second verified on either database.
"""

from __future__ import annotations

import os
import time

from sqlalchemy import Engine

from portal.catalog.audit.chain import Change, written_detail
from portal.catalog.audit.verifying import verify_history
from portal.catalog.audit.writing import append_changes
from portal.catalog.jobs.writing import writing
from portal.database import create_database_engine, migrate, open_session
from portal.settings import Settings
from tests.bench.jobs import databases
from tests.catalog.audit_writers import write_all

ENTRIES, BATCH = 200_000, 5_000
PROCESSES, EACH = 8, 50


def main() -> None:
    """Measure and print."""
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with databases() as found:
        for name, settings in found:
            bench(name, settings)


def bench(name: str, settings: Settings) -> None:
    """One database."""
    engine = create_database_engine(settings)
    migrate(engine)
    begun = time.perf_counter()
    write_all(settings, PROCESSES, EACH)
    seconds = time.perf_counter() - begun
    print(f"{name}: {PROCESSES * EACH / seconds:,.0f} transactions a second with an entry each, {PROCESSES} processes")
    _fill(engine)
    with open_session(engine) as session:
        worked = time.process_time()
        report = verify_history(session, {})
        worked = time.process_time() - worked
    assert report.broken is None
    assert report.entries == ENTRIES + PROCESSES * EACH
    print(
        f"{name}: {report.entries / report.seconds:,.0f} entries a second verified, "
        f"{report.entries / worked:,.0f} a second of this process ({report.entries:,} entries)"
    )
    engine.dispose()


def _fill(engine: Engine) -> None:
    detail = {"kind": "resume", "version": 3, "step": 171_000, "last_step": 171_762, "spec_digest": "0" * 64}
    for first in range(0, ENTRIES, BATCH):
        changes = [
            Change(1_800_000_000_000 + k, "ada", "job.submitted", f"job:{k}", "llm360/amber", written_detail(detail))
            for k in range(first, first + BATCH)
        ]
        with writing(engine) as session:
            append_changes(session, changes)
