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
from portal.errors import FileMissing, IntegrityError, TooLarge
from portal.web.downloads import Download, DownloadPlan, write_sums
from portal.web.sending import open_catalogued

MAX_ZIP = 2 << 30
"""Bytes of files; beyond, a download that cannot be resumed helps nobody."""
PIECE = 1 << 20


def fits_zip(pair: Pair, plan: DownloadPlan) -> bool:
    """Whether `zip_answer` would try: every file lies here, hashed, and all are small enough together."""
    here = all(f.location == "local" and f.state != "missing" and f.sha256 for f in pair.files)
    return here and bool(plan.files) and not plan.absent and pair.total_bytes <= MAX_ZIP


def zip_answer(session: Session, plan: DownloadPlan, folder: str) -> Response:
    """The plan's files below ``folder`` as a zip with its length.

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
    sources = [(file, _place(session, file)) for file in plan.files]
    stream = ZipStream(sized=True)
    for file, path in sources:
        stream.add(_read(path, file), f"{folder}/{file.target}", size=file.size)
    stream.add(write_sums(plan).encode(), f"{folder}/SHA256SUMS")
    headers = {
        "Content-Length": str(len(stream)),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(folder, safe='')}.zip",
        "Cache-Control": "no-cache",
    }
    return StreamingResponse(stream, headers=headers, media_type="application/zip")


def _place(session: Session, file: Download) -> Path:
    local = find_file(session, file.sha256, file.url.rsplit("/", 1)[-1]).local if file.sha256 else None
    if local is None or file.size is None:
        raise FileMissing(f"{file.target} does not lie here.", "Use `portal pair`, or the lists for aria2 and curl.")
    path = Path(unquote(urlsplit(local.uri).path))
    # Looked at before the head is sent: afterwards an answer can only break off.
    os.close(open_catalogued(path, file.size, file.target))
    return path


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
