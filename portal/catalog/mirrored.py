"""Copies of released files in the portal's own store, as further places of these files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import update
from sqlmodel import Session, col, select

from portal.catalog.audit.writing import OPERATOR, put_on_record
from portal.catalog.digests import record_blocks
from portal.catalog.files import FileRow, load_files
from portal.catalog.release import load_facts
from portal.catalog.revisions import bump_revision
from portal.models import File, FileLocation, Release, Run
from portal.storage.hashing import FileDigest


@dataclass(frozen=True)
class Copy:
    """Whole and verified bytes of a file in the portal's own store."""

    file_id: int
    uri: str
    digest: FileDigest
    modified_ns: int | None


def list_released(session: Session, run: str) -> tuple[int, list[FileRow]]:
    """Id of the current release of a run and all its files with their places."""
    release_id = load_facts(session, run).head.id
    return release_id, load_files(session, release_id)


def record_copies(session: Session, release_id: int, copies: Sequence[Copy]) -> None:
    """Add places that were just verified. A file without a published sha256 gets that of the bytes that came. The
    caller commits."""
    now = datetime.now(UTC)
    for copy in copies:
        unknown = update(File).where(col(File.id) == copy.file_id)
        session.execute(unknown.where(col(File.sha256).is_(None)).values(sha256=copy.digest.sha256))
        session.execute(unknown.where(col(File.size).is_(None)).values(size=copy.digest.size))
        chosen = select(FileLocation).where(FileLocation.file_id == copy.file_id, FileLocation.uri == copy.uri)
        place = session.exec(chosen).first() or FileLocation(file_id=copy.file_id, uri=copy.uri)
        place.state, place.modified_ns = "verified", copy.modified_ns
        place.verified_at = place.checked_at = now
        place.checked_bytes = copy.digest.size
        session.add(place)
    record_blocks(session, [copy.digest for copy in copies])
    session.flush()
    if copies:
        owner = select(Run.org, Run.name, Release.version).join(Release, col(Release.run_id) == col(Run.id))
        org, name, version = session.exec(owner.where(Release.id == release_id)).one()
        told = {"files": len(copies), "bytes": sum(c.digest.size for c in copies), "first": copies[0].digest.sha256}
        put_on_record(session, "files.mirrored", OPERATOR, f"release:{org}/{name}@{version}", f"{org}/{name}", told)
    bump_revision(session, release_id)
