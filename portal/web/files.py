"""Bytes by their sha256: ranges, digests, and redirects to where else they lie."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from portal.catalog.files import FileRow, find_file
from portal.database import open_session
from portal.errors import BadRequest, FileMissing, RangeNotSatisfiable
from portal.web import problems
from portal.web.deps import Desk, get_address, get_desk
from portal.web.elsewhere import Told, about_content, send_elsewhere
from portal.web.kept import matches
from portal.web.sending import ByteRange, SendFile, asked_range, file_headers, open_catalogued

router = APIRouter(tags=["files"])

XACCEL_PREFIX = "/_local"
"""Internal nginx location that is an alias of the file system's root: `location /_local/ { internal; alias /; }`."""
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


class _Sent(Response):
    """Hands the request over to a plain ASGI answer."""

    def __init__(self, sender: SendFile) -> None:
        super().__init__()
        self._sender = sender

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._sender(scope, receive, send)


@router.get("/files/{sha256}/{name}", summary="A file's bytes", response_class=Response)
@router.head("/files/{sha256}/{name}", include_in_schema=False)
async def read_file(request: Request, sha256: str, name: str) -> Response:
    """Takes `Range` (one range; several are answered whole), `If-Range` and `If-None-Match`; the ETag is the sha256.

    Files that lie elsewhere are answered with a redirect to where their bytes are (for S3 an address that is signed
    for a limited time: ask here again when it has expired). The redirect itself tells ETag and size.
    """
    if not _SHA256.match(sha256):
        raise BadRequest(
            "A file is addressed by its sha256: 64 lower-case hexadecimal digits.", "Take the url from a list."
        )
    desk = get_desk(request)
    row = await run_in_threadpool(_find, desk, sha256, name)
    etag = f'"{sha256}"'
    wanted = request.headers.get("if-none-match")
    if wanted is not None and matches(wanted.encode("latin-1"), etag.encode()):
        return Response(status_code=304, headers={"ETag": etag})
    try:
        if row.local is None:
            told = Told(etag, await get_address(request), about_content(etag, row.size))
            return await run_in_threadpool(send_elsewhere, request, desk, row, told)
        return await run_in_threadpool(send_local, request, desk, row)
    except RangeNotSatisfiable as error:
        return problems.answer(request, error, {"Content-Range": f"bytes */{row.size}"})


def _find(desk: Desk, sha256: str, name: str) -> FileRow:
    with open_session(desk.engine) as session:
        return find_file(session, sha256, name)


def send_local(request: Request, desk: Desk, row: FileRow, more: Mapping[str, str] | None = None) -> Response:
    """A file of this machine, or the range of it that is asked for; ``more`` headers go with it.

    FileMissing, IntegrityError when it is not as it was published, RangeNotSatisfiable.
    """
    place = row.local
    if place is None:
        raise FileMissing(f"{row.path} is no longer where it was published.")
    path = Path(unquote(urlsplit(place.uri).path))
    descriptor = open_catalogued(path, row.size, row.path)
    vouched = place.modified_ns in (None, os.fstat(descriptor).st_mtime_ns)
    name = row.path.rsplit("/", 1)[-1]
    return send_open(request, desk, path, descriptor, {**file_headers(name, row.sha256, vouched), **(more or {})})


def send_open(request: Request, desk: Desk, path: Path, descriptor: int, headers: dict[str, str]) -> Response:
    """An open file, which the answer closes; ``headers`` hold its ETag. Raises RangeNotSatisfiable."""
    sender = None
    try:
        size = os.fstat(descriptor).st_size
        # A HEAD costs nothing here, and nginx would drop headers it does not know.
        if desk.settings.sendfile == "xaccel" and request.method != "HEAD":
            return Response(headers={**headers, "X-Accel-Redirect": quote(f"{XACCEL_PREFIX}{path}")})
        span = asked_range(request, headers["ETag"], size)
        headers["Content-Length"] = str(span.length if span else size)
        whole = ByteRange(0, size - 1) if size else None
        if span is not None:
            headers["Content-Range"] = f"bytes {span.first}-{span.last}/{size}"
        sender = SendFile(descriptor, 206 if span else 200, headers, span or whole)
        return _Sent(sender)
    finally:
        if sender is None:
            os.close(descriptor)
