"""Clocks that jump while a job is leased, and tokens at the edge of their time: no job runs twice, no token lives longer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from portal.catalog.jobs.attempts import AttemptKey, Beat, beat, give_up, list_expired
from portal.catalog.jobs.queue import claim
from portal.database import create_database_engine, migrate, open_session
from portal.errors import StaleLease
from portal.settings import Settings
from tests.battery.figures import Figures, Scale
from tests.battery.portals import DATABASES
from tests.jobs.enqueued import Clock, put, rules_at, taken, worker
from tests.postgres import start_postgres

HOURS_2 = 7_200.0
JUMPS = {
    "two hours back": -HOURS_2,
    "two hours on": HOURS_2,
    "an hour back, as summer time ends": -3_600.0,
    "an hour on, as it begins": 3_600.0,
}
STARTS = {"today": 1_800_000_000_000, "the last seconds of 32 bits": (2**31 - 30) * 1000, "2106": (2**32 - 30) * 1000}
"""Milliseconds since 1970."""


def run(scale: Scale) -> Figures:
    """Every jump at every date, on both databases."""
    figures = Figures("clock jumps in the middle of a lease")
    server = None if scale.name == "short" else start_postgres()
    try:
        for database in DATABASES[: 1 if server is None else 2]:
            with tempfile.TemporaryDirectory(prefix="battery-") as folder:
                url = server.url(server.create_database("clocks")) if server and database == "postgres" else ""
                settings = Settings(data=Path(folder), **({"database_url": url} if url else {}))
                engine = create_database_engine(settings)
                migrate(engine)
                for date, start in STARTS.items():
                    for jump, seconds in JUMPS.items():
                        said = _jump(engine, start, seconds, f"{database}-{date}-{jump}".replace(" ", "-"))
                        figures.injected += 1
                        figures.lost += bool(said)
                        figures.wrong += [f"{jump} at {date} ({database}): {said}"] if said else []
                engine.dispose()
    finally:
        if server:
            server.stop()
    return figures


def _jump(engine: Engine, start: int, seconds: float, name: str) -> str:
    """A lease, the jump, and what everybody concerned is told."""
    clock = Clock(start)
    rules = rules_at(clock)
    put(engine, rules)
    first, second = worker(engine, rules, f"{name}-1"[:90]), worker(engine, rules, f"{name}-2"[:90])
    lease = taken(engine, rules, first)
    key = AttemptKey(lease.job, lease.attempt, lease.fence)
    clock.pass_seconds(30 + seconds)
    if claim(engine, second.offer(), rules) is not None:
        return "leased to two"
    with open_session(engine) as session:
        expired = key in list_expired(session, rules)
    if expired != (seconds > 0):
        return f"the lease {'has' if expired else 'has not'} run out"
    if not expired:
        if _refused(lambda: beat(engine, key, Beat("running", 302), rules)):
            return "the holder was turned away"
        clock.pass_seconds(91)
    if give_up(engine, key, rules) != "queued":
        return "not given to another after 91 silent seconds"
    clock.pass_seconds(601)
    taken_over = claim(engine, second.offer(), rules)
    if taken_over is None or taken_over.job != lease.job:
        return "nobody got it"
    if not _refused(lambda: beat(engine, key, Beat("running", 303), rules)):
        return "the first holder was still heard"
    done = AttemptKey(taken_over.job, taken_over.attempt, taken_over.fence)
    beat(engine, done, Beat("running", 304), rules)
    _end(engine, done, rules)
    return ""


def _end(engine: Engine, key: AttemptKey, rules: object) -> None:
    """Take the job out of the way of the next cell."""
    from portal.catalog.jobs.wishes import cancel

    cancel(engine, key.job, "battery", rules, True)  # type: ignore[arg-type]
    give_up_at = AttemptKey(key.job, key.number, key.fence)
    rules.clock.pass_seconds(100_000)  # type: ignore[attr-defined]
    give_up(engine, give_up_at, rules)  # type: ignore[arg-type]


def _refused(said: Callable[[], object]) -> bool:
    try:
        said()
    except StaleLease:
        return True
    return False
