"""Fixity: which files are due to be looked at, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, update
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from portal.catalog.answers import FoundFinding
from portal.catalog.audit.writing import PORTAL, put_on_record
from portal.catalog.record import finding_key
from portal.catalog.revisions import bump_revision
from portal.catalog.rows import storable
from portal.models import BlockDigests, Checkpoint, Chunk, File, FileLocation, Finding, Release, Run
from portal.storage.blocks import KnownBlocks
from portal.storage.hashing import BLOCK_ALGORITHM

CODES = ("file-missing", "file-changed", "file-unreachable")
"""Findings that only another look at the same file withdraws."""
NAMED = 40
"""Files that an entry of the history names, those that are wrong first."""


@dataclass(frozen=True)
class DueFile:
    """One place of a file; equal places of several files are looked at once."""

    location_ids: tuple[int, ...]
    path: str
    uri: str
    size: int | None
    sha256: str | None
    modified_ns: int | None
    state: str
    checked_at: datetime | None
    step: int | None
    """Of the checkpoint it belongs to."""
    chunk: str | None
    doubted: bool
    """Whether it was found changed and has not been found good since: a sample cannot clear it."""

    @property
    def is_local(self) -> bool:
        """Whether it lies on this machine."""
        return self.uri.startswith("file://")


@dataclass(frozen=True)
class CheckedFile:
    """What a look at a file told."""

    file: DueFile
    state: str
    """As of `FileLocation.state`."""
    compared: int = 0
    """Bytes that were compared with what was published."""
    modified_ns: int | None = None
    message: str = ""
    """What is wrong; empty where nothing is."""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finding(self) -> FoundFinding | None:
        """What is wrong with it as a finding."""
        if not self.message:
            return None
        evidence: dict[str, Any] = {"path": self.file.path, "uri": self.file.uri, "size": self.file.size}
        evidence |= {"sha256": self.file.sha256, **({"chunk": self.file.chunk} if self.file.chunk else {})}
        severity = "warning" if self.state == "unreachable" else "error"
        code = f"file-{self.state}"
        return FoundFinding(code, severity, self.message, self.file.step, evidence | dict(self.evidence), self.file.uri)


def list_due(session: Session, release_id: int, before: datetime | None = None) -> list[DueFile]:
    """Every place of a release's files, those looked at longest ago first; with ``before`` only those not since then."""
    doubted = _doubted(session, release_id)
    found: dict[tuple[str, int | None, str | None], DueFile] = {}
    for key, path, uri, size, sha256, modified, state, checked_at, step, chunk in session.execute(_places(release_id)):
        at = _in_utc(checked_at)
        if before is not None and at is not None and at >= before:
            continue
        known = found.get((uri, size, sha256))
        ids = (*known.location_ids, key) if known else (key,)
        found[uri, size, sha256] = DueFile(
            ids, path, uri, size, sha256, modified, state, at, step, chunk, uri in doubted or state == "changed"
        )
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(found.values(), key=lambda f: f.checked_at or never)


def count_places(session: Session, release_id: int) -> int:
    """How many places the files of a release have."""
    statement = select(FileLocation.id).join(File, col(File.id) == FileLocation.file_id)
    return len(session.exec(statement.where(File.release_id == release_id)).all())


def list_current_releases(session: Session) -> list[tuple[int, str]]:
    """Id and run of every release that is shown."""
    statement = select(Release.id, Run.org, Run.name).join(
        Run, (col(Run.id) == Release.run_id) & (col(Run.version) == Release.version)
    )
    return [(key or 0, f"{org}/{name}") for key, org, name in session.exec(statement.order_by(col(Release.id)))]


def load_known_blocks(session: Session, digests: Collection[str]) -> dict[str, KnownBlocks]:
    """Block digests of files by their sha256, where they are known."""
    found = {}
    wanted = sorted(digests)
    for start in range(0, len(wanted), 500):
        chosen = col(BlockDigests.sha256).in_(wanted[start : start + 500])
        for row in session.exec(select(BlockDigests).where(chosen, BlockDigests.algorithm == BLOCK_ALGORITHM)):
            found[row.sha256] = KnownBlocks(row.sha256, row.size, row.block_size, row.digests)
    return found


def mark_unchecked(session: Session, files: Sequence[DueFile]) -> None:
    """Say that a look begins: one that never ends leaves its files unchecked, never as good as before."""
    ids = [key for file in files for key in file.location_ids]
    for start in range(0, len(ids), 500):
        chosen = col(FileLocation.id).in_(ids[start : start + 500])
        session.execute(update(FileLocation).where(chosen).values(checked_at=None, checked_bytes=None))


def record_checks(session: Session, release_id: int, checked: Sequence[CheckedFile]) -> None:
    """Keep what was found of each file: its state and time, findings for what is wrong, and those that are withdrawn.

    A file that is right again withdraws every finding of its place; one that cannot be reached withdraws nothing.
    """
    if not checked:
        return
    now = datetime.now(UTC)
    _set_states(session, checked, now)
    _put_changes_on_record(session, release_id, checked)
    _keep_findings(session, release_id, checked, now)
    bump_revision(session, release_id)


def _places(release_id: int) -> Any:
    return (
        columns(
            col(FileLocation.id),
            col(File.path),
            col(FileLocation.uri),
            col(File.size),
            col(File.sha256),
            col(FileLocation.modified_ns),
            col(FileLocation.state),
            col(FileLocation.checked_at),
            col(Checkpoint.step),
            col(Chunk.name),
        )
        .join(File, col(FileLocation.file_id) == col(File.id))
        .join(Checkpoint, col(Checkpoint.id) == col(File.checkpoint_id), isouter=True)
        .join(Chunk, col(Chunk.id) == col(File.chunk_id), isouter=True)
        .where(col(File.release_id) == release_id)
        .order_by(col(FileLocation.id))
    )


def _doubted(session: Session, release_id: int) -> set[str]:
    statement = select(Finding.evidence).where(
        Finding.release_id == release_id, Finding.code == "file-changed", Finding.state != "fixed"
    )
    return {str(evidence.get("uri", "")) for evidence in session.exec(statement)}


def _set_states(session: Session, checked: Sequence[CheckedFile], now: datetime) -> None:
    table = FileLocation.__table__  # type: ignore[attr-defined]
    common = {"state": bindparam("is_now"), "checked_at": now, "checked_bytes": bindparam("compared")}
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for one in checked:
        for key in one.file.location_ids:
            values = {"key": key, "is_now": one.state, "compared": one.compared}
            rows[one.state == "verified" and _is_whole(one)].append(values | {"modified": one.modified_ns})
    if rows[True]:
        whole = common | {"verified_at": now, "modified_ns": bindparam("modified")}
        statement = update(table).where(table.c.id == bindparam("key")).values(whole)
        session.connection().execute(statement, rows[True])
    if rows[False]:
        partly = [{k: v for k, v in row.items() if k != "modified"} for row in rows[False]]
        session.connection().execute(update(table).where(table.c.id == bindparam("key")).values(common), partly)


def _put_changes_on_record(session: Session, release_id: int, checked: Sequence[CheckedFile]) -> None:
    """Files whose state is another one now; nothing where all are as they were."""
    changed = sorted(
        (c for c in checked if c.state != c.file.state), key=lambda c: (c.state == "verified", c.file.path)
    )
    if not changed:
        return
    owner = select(Run.org, Run.name, Release.version).join(Release, col(Release.run_id) == col(Run.id))
    org, name, version = session.exec(owner.where(Release.id == release_id)).one()
    told = [
        {"path": c.file.path, "sha256": c.file.sha256, "before": c.file.state, "after": c.state}
        for c in changed[:NAMED]
    ]
    counts = Counter(f"{c.file.state} -> {c.state}" for c in changed)
    detail = {"files": told, "counts": dict(counts)}
    put_on_record(session, "files.checked", PORTAL, f"release:{org}/{name}@{version}", f"{org}/{name}", detail)


def _is_whole(one: CheckedFile) -> bool:
    return one.file.size is None or one.compared >= one.file.size


def _keep_findings(session: Session, release_id: int, checked: Sequence[CheckedFile], now: datetime) -> None:
    mine = select(Finding).where(Finding.release_id == release_id, col(Finding.code).in_(CODES))
    known = {finding.key: finding for finding in session.exec(mine)}
    by_uri: dict[str, list[Finding]] = {}
    for row in known.values():
        by_uri.setdefault(str(row.evidence.get("uri", "")), []).append(row)
    for one in checked:
        found = one.finding
        key = finding_key(found) if found else ""
        for row in by_uri.get(one.file.uri, []):
            # Missing now does not make it unchanged before; whoever cannot look can clear nothing.
            cleared = found is None or (row.code == "file-unreachable" and found.code != row.code)
            if row.key != key and cleared and row.state == "open":
                row.state, row.fixed_at = "fixed", now
        if found is None:
            continue
        if key not in known:
            known[key] = Finding(release_id=release_id, key=key, code=found.code, found_at=now, state="open")
            session.add(known[key])
        row = known[key]
        row.state = "open" if row.state == "fixed" else row.state
        row.severity, row.message, row.step = found.severity, storable(found.message), found.step
        row.evidence = storable(found.evidence)
    session.flush()


def _in_utc(at: datetime | None) -> datetime | None:
    """SQLite gives moments back without their zone."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
