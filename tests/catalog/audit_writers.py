"""Processes that all write to one history at once."""

from __future__ import annotations

import multiprocessing
import sys

from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from portal.catalog.audit.writing import put_on_record
from portal.catalog.jobs.writing import writing
from portal.database import create_database_engine
from portal.models import Duty
from portal.settings import Settings


def write_all(settings: Settings, processes: int, entries: int) -> list[int]:
    """Let each process leave ``entries`` entries, one a transaction; how many each one committed."""
    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    with context.Pool(processes) as pool:
        return pool.starmap(_write, [(settings, f"writer-{k}", entries) for k in range(processes)])


def _write(settings: Settings, name: str, entries: int) -> int:
    engine, number = create_database_engine(settings), 0
    while number < entries:
        try:
            with writing(engine) as session:
                # As in real changes, something else is written first.
                session.execute(update(Duty).values(holder=name))
                put_on_record(session, "test.written", name, f"thing:{number}", "lab/small", {"number": number})
        except OperationalError:
            # SQLite's writers wait without a queue: one of many may be out of luck for the whole busy timeout.
            continue
        number += 1
    engine.dispose()
    return number
