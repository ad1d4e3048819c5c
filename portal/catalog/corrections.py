"""What a new version does to what was published before it, and whether somebody has to say why."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from portal.catalog.answers.versions import FileChanges
from portal.catalog.audit.writing import OPERATOR, put_on_record
from portal.catalog.recorded import RecordedFile, ReleaseRecord
from portal.errors import ReasonNeeded
from portal.models import Checkpoint, Chunk, File, Release

Place = tuple[Any, str | None, str]
"""Step and first label of a checkpoint, or the name of a chunk, or neither; and the path."""
Bytes = list[tuple[str | None, int | None]]
NAMED = 5
"""Files that a refusal names."""


@dataclass(frozen=True)
class Correction:
    """Files of the version before that are other or no more."""

    changes: FileChanges
    replaced: tuple[str, ...]
    """Paths of checkpoints' and chunks' files that were changed or removed."""


def compare_files(session: Session, run_id: int, version: int, record: ReleaseRecord) -> Correction | None:
    """What ``record`` changes of ``version`` of its run; None where there is none before it."""
    before = _published(session, run_id, version)
    if before is None:
        return None
    after = _coming(record)
    changed = [place for place in before.keys() & after.keys() if _contradicts(before[place], after[place])]
    removed = list(before.keys() - after.keys())
    changes = FileChanges(len(after.keys() - before.keys()), len(changed), len(removed))
    replaced = sorted({place[2] for place in (*changed, *removed) if place[:2] != (None, None)})
    return Correction(changes, tuple(replaced))


def check_reason(correction: Correction | None, record: ReleaseRecord, version: int) -> None:
    """ReasonNeeded where bytes of checkpoints or data that were published would be replaced or dropped without a word.

    A run may grow without one: more checkpoints, more numbers, another description.
    """
    if correction is None or not correction.replaced or record.reason:
        return
    shown = ", ".join(correction.replaced[:NAMED])
    more = f" and {len(correction.replaced) - NAMED:,} more" if len(correction.replaced) > NAMED else ""
    raise ReasonNeeded(
        f"Version {version} of {record.run} would replace or drop published files of checkpoints or data: {shown}{more}.",
        'Say why, for readers of the version before: `--reason "…"`, or `reason` in the request.',
        run=record.run,
        files=list(correction.replaced[:100]),
    )


def put_release_on_record(
    session: Session, record: ReleaseRecord, place: tuple[int, int, int], changes: Mapping[str, int]
) -> None:
    """Leave an entry of a published version; ``place`` is the run's id, the version before (0: none) and the new one."""
    run_id, before, version = place
    asked = select(col(Release.fingerprint)).where(col(Release.run_id) == run_id, col(Release.version) == before)
    detail = {
        "version": version,
        "before": {"version": before, "fingerprint": session.execute(asked).scalar()} if before else None,
        "after": {"version": version, "fingerprint": record.fingerprint},
        "manifest": hashlib.sha256(record.manifest_json.encode()).hexdigest(),
        "files": len(record.all_files),
        "bytes": sum(f.size or 0 for f in record.all_files),
        "changes": dict(changes),
        "reason": record.reason,
    }
    put_on_record(
        session, "release.published", record.by or OPERATOR, f"release:{record.run}@{version}", record.run, detail
    )


def _contradicts(before: Bytes, after: Bytes) -> bool:
    """Whether these are other bytes: to learn the sha256 or size of what nobody had hashed is no change of it."""
    if len(before) != 1 or len(after) != 1:
        return before != after
    return any(was is not None and was != now for was, now in zip(before[0], after[0], strict=True))


def _published(session: Session, run_id: int, version: int) -> Mapping[Place, Bytes] | None:
    release = select(col(Release.id)).where(col(Release.run_id) == run_id, col(Release.version) == version)
    release_id = session.execute(release).scalar()
    if release_id is None:
        return None
    asked = (
        select(
            col(Checkpoint.id),
            col(Checkpoint.step),
            col(Checkpoint.labels),
            col(Chunk.name),
            File.path,
            File.sha256,
            File.size,  # type: ignore[call-overload]
        )
        .select_from(File)
        .join(Checkpoint, col(Checkpoint.id) == col(File.checkpoint_id), isouter=True)
        .join(Chunk, col(Chunk.id) == col(File.chunk_id), isouter=True)
        .where(col(File.release_id) == release_id)
    )
    found: dict[Place, Bytes] = defaultdict(list)
    for checkpoint, step, labels, chunk, path, sha256, size in session.execute(asked):
        found[None if checkpoint is None else _named(step, labels), chunk, path].append((sha256, size))
    return _sorted(found)


def _coming(record: ReleaseRecord) -> Mapping[Place, Bytes]:
    found: dict[Place, Bytes] = defaultdict(list)

    def add(owner: Any, chunk: str | None, file: RecordedFile) -> None:
        found[owner, chunk, file.path].append((file.sha256, file.size))

    for checkpoint, files in record.checkpoints:
        for file in files:
            add(_named(checkpoint.step, checkpoint.labels), None, file)
    for piece, files in record.chunks:
        for file in files:
            add(None, piece.name, file)
    for file in record.files:
        add(None, None, file)
    return _sorted(found)


def _named(step: int | None, labels: Any) -> tuple[int | None, str | None]:
    """A checkpoint by its step, or by its first label where it has none."""
    return step, None if step is not None or not labels else str(labels[0])


def _sorted(found: Mapping[Place, Bytes]) -> Mapping[Place, Bytes]:
    return {place: sorted(held, key=str) for place, held in found.items()}
