"""Files that lie elsewhere: their client is sent there, or gets their bytes through the portal where it is told to.

A signed address is made anew for every request, so a client whose address has expired asks here again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from portal.catalog.files import FilePlace, FileRow, Links
from portal.catalog.reach import readable_file
from portal.database import open_session
from portal.errors import FileMissing, PortalError, Unavailable
from portal.settings import Settings
from portal.storage import REMOTE_SCHEMES, open_remote
from portal.storage.ranged import PIECE
from portal.tokens.readers import ReadableFile
from portal.web.deps import Desk
from portal.web.sending import ByteRange, asked_range, file_headers


@dataclass(frozen=True)
class Told:
    """What the answer says besides the bytes or the redirect."""

    etag: str
    own_address: str
    """Of this portal: nothing may redirect to it."""
    headers: Mapping[str, str]


def send_elsewhere(request: Request, desk: Desk, row: FileRow, told: Told) -> Response:
    """A redirect to the nearest place that can be opened by a client, or the bytes themselves where PORTAL_REMOTE_FILES
    is ``proxy``. FileMissing where there is no such place, Unavailable, RangeNotSatisfiable."""
    if desk.settings.remote_files == "proxy":
        return _send_through(request, desk, row, told)
    address = find_address(row, desk.settings, told.own_address)
    location = quote(address, safe="%/:=&?~#+!$,;'@()*[]")
    # 302 is kept by nobody unless told otherwise; what is signed in it must not be.
    return Response(
        status_code=302,
        headers={"ETag": told.etag, **told.headers, "Location": location, "Accept-Ranges": "bytes", **NOT_KEPT},
    )


def about_content(etag: str, size: int | None) -> dict[str, str]:
    """What clients of a Hub look for on a redirect: one that follows it never sees these headers again."""
    return {"X-Linked-Etag": etag} | ({} if size is None else {"X-Linked-Size": str(size)})


NOT_KEPT = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def find_address(row: FileRow, settings: Settings, own_address: str = "") -> str:
    """Where a client gets the bytes of a file that is not here; the first place that has an address wins."""
    if not row.places or not (places := _sound(row)):
        raise FileMissing(
            f"{row.path} is no longer where it was published.", "Its publisher can restore it or publish again."
        )
    refused: PortalError = FileMissing(
        f"{row.path} lies where only its publisher can reach it.", "Ask the run's publisher."
    )
    for place in places:
        try:
            address = _address(place.uri, row, settings)
        except PortalError as error:
            refused = error
            continue
        if address is None:
            continue
        if urlsplit(address)[:2] == urlsplit(own_address)[:2]:
            # Clients follow a redirect within one host before they have read its headers, and lose them.
            refused = Unavailable(
                f"{row.path} is catalogued at this portal's own address, where it is not.", "Ask its operator."
            )
            continue
        return address
    raise refused


def _sound(row: FileRow) -> list[FilePlace]:
    return [
        p for p in row.places if p.state not in ("missing", "changed") and p.uri.partition("://")[0] in REMOTE_SCHEMES
    ]


def _address(uri: str, row: FileRow, settings: Settings) -> str | None:
    if not uri.startswith("s3://"):
        return Links.of(settings).public_address(uri)
    return open_remote(uri, settings).public_url(uri, row.path.rsplit("/", 1)[-1])


def _send_through(request: Request, desk: Desk, row: FileRow, told: Told) -> Response:
    if not _sound(row):
        raise FileMissing(
            f"{row.path} is no longer where it was published.", "Its publisher can restore it or publish again."
        )
    with open_session(desk.engine) as session:
        file = readable_file(session, desk.settings, row)
    size = row.size if row.size is not None else file.store.seen(file.uri).size
    # Not vouched for: blocks are compared where they are known, the whole is not.
    headers = file_headers(row.path.rsplit("/", 1)[-1], row.sha256, False) | {"ETag": told.etag} | dict(told.headers)
    span = asked_range(request, headers["ETag"], size)
    headers["Content-Length"] = str(span.length if span else size)
    if span is not None:
        headers["Content-Range"] = f"bytes {span.first}-{span.last}/{size}"
    status, wanted = (206, span) if span else (200, ByteRange(0, size - 1))
    if request.method == "HEAD" or not size:
        return Response(status_code=status, headers=headers)
    pieces = read_through(file, wanted.first, wanted.last + 1)
    # The first piece before the head: a store that does not answer is told as such.
    first = next(pieces)
    return StreamingResponse(_again(first, pieces), status, headers)


def read_through(file: ReadableFile, at: int, end: int) -> Iterator[bytes]:
    """The bytes of a file elsewhere from ``at`` up to ``end``; errors of its store."""
    while at < end:
        # Up to the next border of a block, so that each block is fetched and compared once.
        until = min(end, (at // PIECE + 1) * PIECE)
        yield file.store.read_range(file.uri, at, until - at)
        at = until


def _again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
