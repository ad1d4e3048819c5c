"""How the portal has been lately: workers, jobs, looks at files, backups."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from portal.catalog.examined import Activity, open_to_look, read_activity
from portal.database import DatabaseFault
from portal.doctor.verdicts import Verdict, fail, ok, warn
from portal.errors import Unavailable
from portal.exchange.backup.make import last_backup
from portal.scan.amounts import parse_age
from portal.settings import Settings

DAY_S = 86400.0
WAITING_S = 3600.0
BACKUP_S = 7 * DAY_S


def check_activity(settings: Settings) -> Iterator[Verdict]:
    """Workers, jobs, fixity; nothing where the database cannot be asked, as its own check says so."""
    stuck_s = 5 * settings.reaper_seconds + settings.lease_seconds
    try:
        with open_to_look(settings) as engine:
            found = read_activity(engine, settings, stuck_s, WAITING_S)
    except (Unavailable, DatabaseFault):
        return
    yield from _workers(found)
    yield from _jobs(found)
    yield _fixity(found, settings)


def check_backup(settings: Settings) -> Iterator[Verdict]:
    """When the last one was made."""
    part, last = "backup", last_backup(settings)
    if last is None:
        yield warn(
            part, "No backup was ever made from here.", "`portal backup PLACE`, every night, to another machine."
        )
        return
    try:
        age = time.time() - datetime.fromisoformat(str(last["made_at"])).timestamp()
    except (KeyError, ValueError):
        yield warn(part, "The note of the last backup cannot be read.", "Make one: `portal backup PLACE`.")
        return
    told = f"The last one is {age / DAY_S:.1f} days old: {last.get('id')} at {last.get('where')}."
    if age > BACKUP_S:
        yield warn(part, told, "Make one every night: `portal backup PLACE`.")
    elif last.get("lost"):
        yield warn(
            part, f"{told} {last['lost']} things could not be read for it.", "`portal verify RUN --deep` finds them."
        )
    else:
        yield ok(part, told)


def _workers(found: Activity) -> Iterator[Verdict]:
    if found.newest_worker is None:
        yield ok("workers", "None was ever attached: jobs wait until one is.")
        return
    ago = max(0.0, time.time() - found.newest_worker)
    told = f"{found.workers} attached; the last word of one came {_span(ago)} ago."
    if found.silent:
        yield warn(
            "workers",
            f"{told} Silent: {', '.join(found.silent[:5])}.",
            "Look at their machines and logs; start `portal worker` there again.",
        )
    else:
        yield ok("workers", told)


def _jobs(found: Activity) -> Iterator[Verdict]:
    if found.stuck:
        yield fail(
            "jobs",
            f"Leases ran out and nobody took the jobs back: {_numbers(found.stuck)}.",
            "`portal serve` does that: is it running, on this database?",
        )
    if found.waiting:
        yield warn(
            "jobs",
            f"Queued for more than an hour: {_numbers(found.waiting)}.",
            "Attach a worker that has what they need; their pages say who could run them.",
        )
    if not found.stuck and not found.waiting:
        yield ok("jobs", "None is stuck.")


def _fixity(found: Activity, settings: Settings) -> Verdict:
    part, now = "fixity", time.time()
    if not settings.verify_every:
        return warn(
            part,
            "Files are not looked at again by themselves: one that rots is found when somebody reads it.",
            "Set PORTAL_VERIFY_EVERY=30d, or run `portal verify RUN --deep` on a schedule.",
        )
    every = parse_age(settings.verify_every).total_seconds()
    if found.newest_check is None:
        return ok(part, f"Every file is looked at each {settings.verify_every}; none was until now.")
    told = f"The last file was looked at {_span(now - found.newest_check)} ago"
    if found.oldest_check is not None and now - found.oldest_check > 2 * every:
        return warn(
            part,
            f"{told}; the one that waits longest, {_span(now - found.oldest_check)} ago.",
            "Raise PORTAL_VERIFY_RATE, or lengthen PORTAL_VERIFY_EVERY: it does not keep up.",
        )
    return ok(part, f"{told}; none waits for longer than twice {settings.verify_every}.")


def _numbers(ids: list[int]) -> str:
    return ", ".join(str(id) for id in ids[:5]) + (" and more" if len(ids) > 5 else "")


def _span(seconds: float) -> str:
    for length, name in ((DAY_S, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{max(0.0, seconds):.0f} seconds"
