"""Small pairs as one zip, streamed: nothing is compressed or kept, so the length is known before the first byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from sqlmodel import Session
from starlette.responses import Response, StreamingResponse
from zipstream import ZipStream

from portal.catalog.answers import Pair
from portal.catalog.files import find_file
from portal.catalog.reach import look, readable_file
from portal.database import let_go
from portal.errors import FileMissing, IntegrityError, TooLarge
from portal.settings import Settings
from portal.storage import Meter
from portal.web.downloads import Download, DownloadPlan, write_sums
from portal.web.elsewhere import read_through
from portal.web.sending import open_catalogued

MAX_ZIP = 2 << 30
"""Bytes of files; beyond, a download that cannot be resumed helps nobody."""
PIECE = 1 << 20
LOST = ("missing", "changed")


def fits_zip(pair: Pair, plan: DownloadPlan, through: bool) -> bool:
    """Whether `zip_answer` would try: every file lies here, hashed, and all are small enough together.

    ``through``: whether bytes of files elsewhere pass through the portal.
    """
    here = all((through or f.location == "local") and f.state not in LOST and f.sha256 for f in pair.files)
    return here and bool(plan.files) and not plan.absent and pair.total_bytes <= MAX_ZIP


def zip_answer(session: Session, settings: Settings, plan: DownloadPlan, folder: str) -> Response:
    """The plan's files below ``folder`` as a zip with its length. Files elsewhere are among them where the portal hands
    their bytes through.

    Raises FileMissing where one does not lie here, TooLarge beyond 2 GiB, IntegrityError for one that has changed.
    """
    if plan.absent or not plan.files:
        raise FileMissing(
            plan.absent[0] if plan.absent else "The pair has no files.", "Fetch what there is with `portal pair`."
        )
    total = sum(f.size or 0 for f in plan.files)
    if total > MAX_ZIP:
        raise TooLarge(
            f"The pair holds {total:,} bytes; a zip is made of up to {MAX_ZIP:,}.",
            "Use `portal pair`, or pair.meta4 with aria2: both resume.",
        )
    sources = [(file, _open(session, settings, file)) for file in plan.files]
    stream = ZipStream(sized=True)
    for file, pieces in sources:
        stream.add(pieces, f"{folder}/{file.target}", size=file.size)
    stream.add(write_sums(plan).encode(), f"{folder}/SHA256SUMS")
    headers = {
        "Content-Length": str(len(stream)),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(folder, safe='')}.zip",
        "Cache-Control": "no-cache",
    }
    return StreamingResponse(stream, headers=headers, media_type="application/zip")


def _open(session: Session, settings: Settings, file: Download) -> Iterator[bytes]:
    row = find_file(session, file.sha256, file.url.rsplit("/", 1)[-1]) if file.sha256 else None
    if (
        row is None
        or file.size is None
        or (row.local is None and (settings.remote_files != "proxy" or not row.elsewhere))
    ):
        raise FileMissing(f"{file.target} does not lie here.", "Use `portal pair`, or the lists for aria2 and curl.")
    # Looked at before the head is sent: afterwards an answer can only break off.
    if row.local is None:
        held = readable_file(session, settings, row)
        let_go(session)
        look(held, Meter())
        return read_through(held, 0, file.size)
    path = Path(unquote(urlsplit(row.local.uri).path))
    os.close(open_catalogued(path, file.size, file.target))
    return _read(path, file)


def _read(path: Path, file: Download) -> Iterator[bytes]:
    descriptor = open_catalogued(path, file.size, file.target)
    with open(descriptor, "rb") as stream:
        left = file.size or 0
        while left:
            piece = stream.read(min(PIECE, left))
            if not piece:
                raise IntegrityError(f"{file.target} became shorter while it was read.", "Ask again.")
            left -= len(piece)
            yield piece
