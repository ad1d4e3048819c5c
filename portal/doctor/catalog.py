"""The database: reachable, of this version's schema, and set so that nothing acknowledged is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from portal.catalog.examined import DatabaseFacts, check_pages, open_to_look, read_database_facts
from portal.database import known_revisions
from portal.doctor.verdicts import Verdict, fail, ok, warn
from portal.errors import Unavailable
from portal.settings import Settings

PART = "database"
SKEW_S = 5.0
NETWORKS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "ceph", "lustre", "fuse.s3fs", "glusterfs")
LARGE_LOG = 1 << 30
QUICK = 64 << 20
"""Bytes up to which a database is checked page by page: half a second."""
CONNECTIONS = 16
"""That one process of the portal may open."""


def check_database(settings: Settings) -> Iterator[Verdict]:
    """Everything about it."""
    try:
        with open_to_look(settings) as engine:
            facts = read_database_facts(engine)
    except Unavailable as error:
        yield fail(PART, error.message, error.remedy)
        return
    yield ok(PART, f"{facts.dialect} {facts.version} answers; it holds {facts.size / 2**20:,.1f} MiB.")
    yield _schema(facts)
    yield from (_sqlite if facts.dialect == "sqlite" else _postgres)(facts)


def _schema(facts: DatabaseFacts) -> Verdict:
    known = known_revisions()
    if facts.revision == known[0]:
        return ok("schema", f"It is {facts.revision}, which this version needs.")
    if facts.revision is None:
        return fail("schema", "The database has no tables of the portal.", "Run `portal migrate`.")
    if facts.revision not in known:
        return fail(
            "schema",
            f"The schema is {facts.revision}, which this version does not know: a newer portal was here.",
            "Run that newer version, or restore a backup that was made before.",
        )
    return fail(
        "schema",
        f"The schema is {facts.revision}; this version needs {known[0]}.",
        "Run `portal backup PLACE`, then `portal migrate`.",
    )


def _sqlite(facts: DatabaseFacts) -> Iterator[Verdict]:
    path = Path(facts.settings["path"])
    mode = facts.settings["journal_mode"]
    if mode != "wal":
        yield warn(
            PART,
            f"Its journal mode is {mode} instead of wal: readers and writers would wait for each other.",
            "`portal migrate` or `portal serve` sets it, where the folder can be written.",
        )
    if facts.size <= QUICK and (told := check_pages(path)) != "ok":
        yield fail(PART, f"The database is damaged: {told}.", "Stop the portal and restore the last good backup.")
    kind = _file_system(path)
    if kind in NETWORKS:
        yield fail(
            PART,
            f"It lies on a network file system ({kind}), where SQLite's locks cannot be relied on.",
            "Move PORTAL_DATA to a local disk, or use PostgreSQL.",
        )
    log = path.with_name(path.name + "-wal")
    if log.is_file() and log.stat().st_size > LARGE_LOG:
        yield warn(
            PART,
            f"Its log has grown to {log.stat().st_size / 2**30:.1f} GiB: some command has been reading for very long.",
            "Find what keeps it open, and end that.",
        )
    free = shutil.disk_usage(path.parent).free
    if free < facts.size:
        yield warn(
            PART,
            f"Its disk has {free / 2**20:,.0f} MiB left, less than the database itself.",
            "Make room: a migration may write the database anew.",
        )


def _postgres(facts: DatabaseFacts) -> Iterator[Verdict]:
    told = facts.settings
    for name in ("fsync", "full_page_writes"):
        if told[name] != "on":
            yield fail(
                PART, f"{name} is {told[name]}: a power cut may destroy it.", f"Set {name} = on in postgresql.conf."
            )
    if told["synchronous_commit"] == "off":
        yield warn(
            PART,
            "synchronous_commit is off: a power cut may lose what was already acknowledged.",
            "Set synchronous_commit = on.",
        )
    if told["server_encoding"] != "UTF8":
        yield fail(PART, f"Its encoding is {told['server_encoding']}.", "Make the database anew with encoding UTF8.")
    if told["default_transaction_isolation"] != "read committed":
        yield warn(
            PART,
            f"Transactions are {told['default_transaction_isolation']} by default: leases would fail and be tried again.",
            "Set default_transaction_isolation = 'read committed'.",
        )
    if int(told["max_connections"]) < 2 * CONNECTIONS:
        yield warn(
            PART,
            f"max_connections is {told['max_connections']}; one process of the portal may open {CONNECTIONS}.",
            "Raise it to 32 for each process of `portal serve --workers`.",
        )
    if abs(facts.skew_s) > SKEW_S:
        yield warn(
            "clock",
            f"The database's clock is {facts.skew_s:+.0f} s away from this machine's: leases and schedules go by clocks.",
            "Let both machines set their clocks (NTP).",
        )


def _file_system(path: Path) -> str:
    """The kind of file system a path lies on; empty where nobody tells."""
    real = str(path.resolve())
    best, kind = "", ""
    for part in psutil.disk_partitions(all=True):
        at = part.mountpoint.rstrip("/")
        if (real == at or real.startswith(f"{at}/")) and len(at) >= len(best):
            best, kind = at, part.fstype
    return kind
