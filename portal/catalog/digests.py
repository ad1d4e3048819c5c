"""What the files of a run are: their digests, and those of their blocks."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session, col, func, select

from portal.catalog.answers import FileView, Page
from portal.catalog.answers.files import FileBlocks
from portal.catalog.bulk import Columns, insert_columns
from portal.catalog.files import Links, load_files
from portal.catalog.paging import check_limit, make_cursor, read_cursor
from portal.catalog.release import load_facts
from portal.catalog.sight import current_sight
from portal.errors import FileNotCatalogued
from portal.models import BlockDigests, File
from portal.settings import Settings
from portal.storage.hashing import FileDigest

DIGEST_BYTES = 32


def list_files(
    session: Session, settings: Settings, run: str, limit: int = 100, cursor: str | None = None
) -> Page[FileView]:
    """Every file of a run's current release, in the order it was recorded, with its sha256 where that is known."""
    head = load_facts(session, run).head
    start = read_cursor(head.version, cursor)
    own = col(File.release_id) == head.id
    total = session.exec(select(func.count()).select_from(File).where(own)).one()
    chosen = select(File.id).where(own).order_by(col(File.id)).offset(start).limit(check_limit(limit))
    links = Links.of(settings)
    rows = load_files(session, head.id, col(File.id).in_(session.exec(chosen).all()))
    items = [links.file_view(row) for row in sorted(rows, key=lambda row: row.id)]
    end = start + len(items)
    return Page(items, total, make_cursor(head.version, end) if end < total else None)


def get_blocks(session: Session, sha256: str) -> FileBlocks:
    """The digests of the file with this sha256; FileNotCatalogued when it was never hashed here."""
    row = session.get(BlockDigests, sha256)
    if row is None or not _is_seen(session, sha256):
        raise FileNotCatalogued(
            f"No file with sha256 {sha256[:64]} was hashed here.", "Only files that lie here have digests of blocks."
        )
    digests = [row.digests[at : at + DIGEST_BYTES].hex() for at in range(0, len(row.digests), DIGEST_BYTES)]
    return FileBlocks(row.sha256, row.size, row.block_size, row.algorithm, digests)


def record_blocks(session: Session, digests: Iterable[FileDigest]) -> None:
    """Keep the block digests of files whose bytes were read whole and had the sha256 they are named by; the caller commits."""
    rows = list({d.sha256: d for d in digests}.values())
    values: Columns = {
        "sha256": [d.sha256 for d in rows],
        "size": [d.size for d in rows],
        "block_size": [d.block_size for d in rows],
        "algorithm": [d.algorithm for d in rows],
        "digests": [d.blocks for d in rows],
    }
    insert_columns(session, BlockDigests, values, unless_known="sha256")


def _is_seen(session: Session, sha256: str) -> bool:
    """Whether a release that whoever asks may see holds such a file; digests are kept by content, whose it is."""
    if current_sight().everything:
        return True
    return session.exec(select(File.id).where(File.sha256 == sha256).limit(1)).first() is not None
