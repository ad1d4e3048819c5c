"""What is already published of a run, as a publisher needs to know it before publishing again."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlmodel import Session, col

from portal.models import File, FileLocation, MetricSeries, Release, Run


@dataclass(frozen=True)
class Published:
    """The current version of a run."""

    release_id: int
    version: int
    fingerprint: str
    checkpoints: int
    chunks: int
    files: int
    points: int
    locations: dict[str, str]
    """Where the metric store keeps each series, by name."""

    @property
    def series(self) -> int:
        """How many series it has."""
        return len(self.locations)


@dataclass(frozen=True)
class KnownFile:
    """A local file as it was when it was last hashed."""

    location_id: int
    size: int | None
    modified_ns: int | None
    sha256: str | None
    state: str


def find_published(session: Session, run: str) -> Published | None:
    """The current version of ``org/name``; None when it was never published."""
    org, _, name = run.partition("/")
    statement = (
        select(
            col(Release.id),
            col(Release.version),
            col(Release.fingerprint),
            col(Release.checkpoint_count),
            col(Release.chunk_count),
            col(Release.file_count),
            col(Release.point_count),
        )
        .join(Run, (col(Run.id) == col(Release.run_id)) & (col(Run.version) == col(Release.version)))
        .where(col(Run.org) == org, col(Run.name) == name)
    )
    row = session.execute(statement).first()
    if row is None:
        return None
    series = select(col(MetricSeries.name), col(MetricSeries.location)).where(col(MetricSeries.release_id) == row[0])
    locations = {found.name: found.location for found in session.execute(series)}
    release_id, version, fingerprint, checkpoints, chunks, files, points = row
    return Published(release_id, version, fingerprint, checkpoints, chunks, files, points, locations)


def known_files(session: Session, release_id: int) -> dict[str, KnownFile]:
    """The files of a release on this machine by URI."""
    statement = (
        select(
            col(FileLocation.uri),
            col(FileLocation.id),
            col(File.size),
            col(FileLocation.modified_ns),
            col(File.sha256),
            col(FileLocation.state),
        )
        .join(File, col(File.id) == col(FileLocation.file_id))
        .where(col(File.release_id) == release_id, col(FileLocation.uri).like("file://%"))
    )
    return {uri: KnownFile(*known) for uri, *known in session.execute(statement)}
