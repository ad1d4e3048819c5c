"""What is already published of a run, as a publisher needs to know it before publishing again."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, select

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
    series: int


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
            Release.id,
            Release.version,
            Release.fingerprint,
            Release.checkpoint_count,
            Release.chunk_count,
            Release.file_count,
            Release.point_count,
        )
        .join(Run, (col(Run.id) == Release.run_id) & (col(Run.version) == Release.version))
        .where(Run.org == org, Run.name == name)
    )
    row = session.execute(statement).first()
    if row is None:
        return None
    series = session.exec(select(MetricSeries.id).where(MetricSeries.release_id == row[0])).all()
    return Published(*row, series=len(series))


def known_files(session: Session, release_id: int) -> dict[str, KnownFile]:
    """The files of a release on this machine by URI."""
    statement = (
        select(FileLocation.uri, FileLocation.id, File.size, FileLocation.modified_ns, File.sha256, FileLocation.state)
        .join(File, col(File.id) == FileLocation.file_id)
        .where(File.release_id == release_id, col(FileLocation.uri).like("file://%"))
    )
    return {uri: KnownFile(*known) for uri, *known in session.execute(statement)}


def is_recorded(session: Session, run: str, fingerprint: str) -> bool:
    """Whether any version of a run has this fingerprint."""
    org, _, name = run.partition("/")
    statement = (
        select(Release.id)
        .join(Run, col(Run.id) == Release.run_id)
        .where(Run.org == org, Run.name == name, Release.fingerprint == fingerprint)
    )
    return session.execute(statement).first() is not None
