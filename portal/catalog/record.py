"""The only write door of the catalog: a release goes in whole or not at all.

Nothing here commits: the caller does, so that everything it records becomes visible together.
Rows are inserted in bulk; a run of 360 checkpoints is a few thousand of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, func, insert, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session, col, select

from portal.catalog.answers import FoundFinding
from portal.catalog.bulk import insert_columns, next_ids
from portal.catalog.corrections import check_reason, compare_files, put_release_on_record
from portal.catalog.digests import record_blocks
from portal.catalog.recorded import RecordedFile, ReleaseRecord
from portal.catalog.reviewed import known_explanations
from portal.catalog.revisions import bump_revision
from portal.catalog.rows import (
    checkpoint_row,
    chunk_row,
    config_row,
    evaluation_row,
    event_row,
    order_row,
    release_row,
    series_row,
    storable,
)
from portal.catalog.withdrawals import refuse_withdrawn
from portal.database import Engine, open_session
from portal.errors import Unavailable, VersionTaken
from portal.manifest import stages_of
from portal.models import (
    Checkpoint,
    CheckpointLabel,
    Chunk,
    ChunkSpan,
    Config,
    DataOrder,
    Evaluation,
    Event,
    File,
    FileLocation,
    Finding,
    MetricSeries,
    Release,
    Run,
    Stage,
)

MET = "met-"
"""Begins the ids of findings made while publishing."""

Owner = tuple[int | None, int | None, Sequence[RecordedFile]]
"""Id of a checkpoint, or of a chunk, or neither; and its files in order."""

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@contextmanager
def recording(engine: Engine) -> Iterator[Session]:
    """One transaction: committed when the block ends, undone whole when it raises.

    Raises Unavailable when the database is held by somebody else for longer than its timeout.
    """
    try:
        with open_session(engine) as session:
            session.info["writing"] = True
            yield session
            session.commit()
    except (IntegrityError, OperationalError) as error:
        raise Unavailable(
            f"The database did not take the release: {str(error.orig)[:300]}.", "Nothing was recorded; publish again."
        ) from error


def lock_run(session: Session, run: str) -> tuple[int, int]:
    """Take the run's row for this transaction, made when absent; its id and current version (0: none).

    The first statement of a recording transaction is a write, because SQLite refuses to turn a
    transaction that has already read into a writing one once somebody else has written.
    """
    org, _, name = run.partition("/")
    values = {"org": org, "name": name, "version": 0, "revision": 0, "created_at": datetime.now(UTC)}
    session.execute(_insert_new(session, Run, ["org", "name"]).values(values))
    statement = select(Run.id, Run.version).where(Run.org == org, Run.name == name).with_for_update()
    run_id, version = session.exec(statement).one()
    return run_id or 0, version


def record_release(session: Session, record: ReleaseRecord, after: int | None = None) -> tuple[int, int] | None:
    """Record a new version of a run and make it the current one: (release id, version).

    None when the current version already has this fingerprint: nothing changed. Raises VersionTaken where it
    was to follow version ``after`` (0: none) and another one is current, ReasonNeeded where it replaces published files
    without a word, Conflict for content that was withdrawn.
    """
    run_id, current = lock_run(session, record.run)
    fingerprint = select(Release.fingerprint).where(Release.run_id == run_id, Release.version == current)
    if session.exec(fingerprint).first() == record.fingerprint:
        return None
    if after is not None and after != current:
        raise VersionTaken(record.run, current, after)
    refuse_withdrawn(session, record.run, run_id, record.fingerprint)
    newest = session.exec(select(func.max(Release.version)).where(Release.run_id == run_id)).one() or 0
    version = int(newest) + 1
    correction = compare_files(session, run_id, current, record)
    check_reason(correction, record, version)
    _mark_replaced(session, run_id, current, record)
    row = release_row(record, run_id, version) | {"changes": asdict(correction.changes) if correction else {}}
    release_id = _insert_keyed(session, Release, [row])[0]
    put_release_on_record(session, record, (run_id, current, version), row["changes"])
    files = _record_artifacts(session, release_id, record)
    _record_order(session, release_id, record)
    _record_numbers(session, release_id, record)
    _insert(session, Config, [config_row(release_id, c, files) for c in record.configs])
    record_blocks(session, record.digests)
    session.execute(update(Run).where(col(Run.id) == run_id).values(version=version, revision=Run.revision + 1))
    return release_id, version


def record_findings(
    session: Session,
    release_id: int,
    findings: Sequence[FoundFinding],
    met: Sequence[FoundFinding] = (),
    kept: Collection[str] = (),
) -> None:
    """Make ``findings`` the open findings of a release.

    One that was open and is not found any more becomes ``fixed``; one that a person explained stays
    explained, also in the next version where it says the same; one that comes back is open again. ``met``
    are what publishing met in the files while reading them: no scan looks for these again, so they stay as
    long as the release. Codes in ``kept`` were not looked for and stay as they are.
    """
    known = {f.key: f for f in session.exec(select(Finding).where(Finding.release_id == release_id)).all()}
    found = {finding_key(f): f for f in findings} | {MET + finding_key(f): f for f in met}
    now = datetime.now(UTC)
    for key, finding in known.items():
        again = found.get(key)
        if again is None:
            gone = finding.state == "open" and not key.startswith(MET) and finding.code not in kept
            if gone:
                finding.state, finding.fixed_at = "fixed", now
            continue
        finding.state = "open" if finding.state == "fixed" else finding.state
        finding.severity, finding.message, finding.evidence = (
            again.severity,
            storable(again.message),
            storable(again.evidence),
        )
        finding.step = again.step
    explained = known_explanations(session, release_id) if found.keys() - known.keys() else {}
    rows = [
        {
            "release_id": release_id,
            "key": key,
            "code": f.code,
            "severity": f.severity,
            "message": storable(f.message),
            "step": f.step,
            "evidence": storable(f.evidence),
            "state": "explained" if explained.get(key) == storable(f.message) else "open",
            "found_at": now,
        }
        for key, f in found.items()
        if key not in known
    ]
    session.flush()
    _insert(session, Finding, rows)
    bump_revision(session, release_id)


def record_location_states(session: Session, states: Mapping[int, str]) -> None:
    """Set what became of files, by id of their location; those found good are verified now."""
    now = datetime.now(UTC)
    for state in sorted(set(states.values())):
        ids = [location for location, is_now in states.items() if is_now == state]
        values: dict[str, Any] = {"state": state, "checked_at": now}
        values |= {"verified_at": now} if state == "verified" else {}
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            session.execute(update(FileLocation).where(col(FileLocation.id).in_(part)).values(values))


def record_verified(session: Session, release_id: int, hashed: Mapping[int, int | None]) -> None:
    """Files of a release that were hashed again and found good: location id to the mtime that was read."""
    now = datetime.now(UTC)
    rows = [{"key": key, "modified_ns": modified, "verified_at": now} for key, modified in hashed.items()]
    if rows:
        table = FileLocation.__table__  # type: ignore[attr-defined]
        statement = update(table).where(table.c.id == bindparam("key"))
        size = select(File.size).where(col(File.id) == table.c.file_id).scalar_subquery()
        values = {"modified_ns": bindparam("modified_ns"), "verified_at": bindparam("verified_at"), "state": "verified"}
        values |= {"checked_at": bindparam("verified_at"), "checked_bytes": size}
        session.connection().execute(statement.values(values), rows)
        bump_revision(session, release_id)


def finding_key(finding: FoundFinding) -> str:
    """Stable id of a finding within its run: its code and a digest of what it is about."""
    about = f"{finding.code}\0{finding.step}\0{finding.subject}"
    return f"{finding.code}-{hashlib.sha256(about.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"


def _mark_replaced(session: Session, run_id: int, version: int, record: ReleaseRecord) -> None:
    """Files of the version before whose bytes are no longer at their place."""
    now = {f.uri: f.sha256 for f in record.all_files}
    statement = (
        select(FileLocation.id, FileLocation.uri, File.sha256)
        .join(File, col(File.id) == FileLocation.file_id)
        .join(Release, col(Release.id) == File.release_id)
        .where(Release.run_id == run_id, Release.version == version, FileLocation.state == "verified")
    )
    replaced = {
        key: "changed" for key, uri, sha256 in session.exec(statement) if now.get(uri, sha256) != sha256 and key
    }
    record_location_states(session, replaced)


def _record_artifacts(session: Session, release_id: int, record: ReleaseRecord) -> dict[str, int]:
    """Stages, checkpoints, chunks and all files; ids of the files that belong to neither, by path."""
    _insert(session, Stage, [{"release_id": release_id, **vars(s)} for s in stages_of(record.manifest)])
    checkpoints = _insert_keyed(session, Checkpoint, [checkpoint_row(release_id, e, f) for e, f in record.checkpoints])
    labels = [
        {"release_id": release_id, "checkpoint_id": key, "label": label}
        for key, (entry, _) in zip(checkpoints, record.checkpoints, strict=True)
        for label in entry.labels
    ]
    _insert(session, CheckpointLabel, labels)
    chunks = _insert_keyed(session, Chunk, [chunk_row(release_id, e, f) for e, f in record.chunks])
    owners: list[Owner] = [(key, None, files) for key, (_, files) in zip(checkpoints, record.checkpoints, strict=True)]
    owners += [(None, key, files) for key, (_, files) in zip(chunks, record.chunks, strict=True)]
    return _record_files(session, release_id, [*owners, (None, None, record.files)])


def _record_files(session: Session, release_id: int, owners: Sequence[Owner]) -> dict[str, int]:
    """Files with their places; ids of the last owner's by path."""
    files = [f for _, _, owned in owners for f in owned]
    ids = next_ids(session, File, len(files))
    rows = {
        "id": ids,
        "release_id": [release_id] * len(files),
        "checkpoint_id": [checkpoint for checkpoint, _, owned in owners for _ in owned],
        "chunk_id": [chunk for _, chunk, owned in owners for _ in owned],
        "path": [f.path for f in files],
        "role": [f.role for f in files],
        "size": [f.size for f in files],
        "sha256": [f.sha256 for f in files],
        "position": [k for _, _, owned in owners for k in range(len(owned))],
    }
    insert_columns(session, File, rows)
    now = datetime.now(UTC)
    places = {
        "file_id": ids,
        "uri": [f.uri for f in files],
        "modified_ns": [f.modified_ns for f in files],
        "verified_at": [now if f.state == "verified" else None for f in files],
        "checked_at": [now if f.state == "verified" else None for f in files],
        "checked_bytes": [f.size if f.state == "verified" else None for f in files],
        "state": [f.state for f in files],
    }
    insert_columns(session, FileLocation, places)
    loose = owners[-1][2]
    return {f.path: key for f, key in zip(loose, ids[len(files) - len(loose) :], strict=True)}


def _record_order(session: Session, release_id: int, record: ReleaseRecord) -> None:
    orders = _insert_keyed(session, DataOrder, [order_row(release_id, entry) for entry, _ in record.orders])
    chunks = dict(session.exec(select(Chunk.name, Chunk.id).where(Chunk.release_id == release_id)).all())
    times: dict[str, int] = {}
    rows = []
    for order_id, (_, spans) in zip(orders, record.orders, strict=True):
        for span in spans:
            rows.append(
                {
                    "release_id": release_id,
                    "chunk_id": chunks[span.chunk],
                    "order_id": order_id,
                    "first_step": span.first_step,
                    "last_step": span.last_step,
                    "repeat": times.get(span.chunk, 0),
                }
            )
            times[span.chunk] = times.get(span.chunk, 0) + 1
    _insert(session, ChunkSpan, rows)


def _record_numbers(session: Session, release_id: int, record: ReleaseRecord) -> None:
    _insert(session, MetricSeries, [series_row(release_id, s) for s in record.series])
    events = [event_row(release_id, e, "declared") for e in record.manifest.events]
    events += [event_row(release_id, e, "detected") for e in record.detected]
    _insert(session, Event, events)
    _insert(session, Evaluation, [evaluation_row(release_id, e) for e in record.evaluations])


def _insert(session: Session, table: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        session.connection().execute(insert(table.__table__), list(rows))


def _insert_keyed(session: Session, table: Any, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Insert and give back the new ids, in the order of ``rows``."""
    if not rows:
        return []
    ids = list(next_ids(session, table, len(rows)))
    _insert(session, table, [{**row, "id": key} for row, key in zip(rows, ids, strict=True)])
    return ids


def _insert_new(session: Session, table: Any, unique: Iterable[str]) -> Any:
    """An INSERT that leaves rows alone that are already there."""
    return _INSERTS[session.get_bind().dialect.name](table.__table__).on_conflict_do_nothing(
        index_elements=list(unique)
    )
