"""Files come in: whole or in pieces, resumable, hashed by the portal, visible only when whole and right."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from portal.errors import BadRequest, OffsetMismatch, PortalError, TooSlow, Unavailable
from portal.settings import Settings
from portal.storage.blobs import Upload, Writing, checked_name, open_blobs
from portal.storage.room import check_disk, check_room
from portal.web import problems
from portal.web.access import AllowedCaller
from portal.web.deps import as_json, get_desk

router = APIRouter(prefix="/api/v1/blobs", tags=["publishing"])

BUFFER = 1 << 20
"""Bytes gathered before they are written: a thread is woken for each."""
WORTH_READING = 64 << 20
"""Bytes of a refused body that are read and dropped, so that the client comes to read why; beyond, it is cut off."""
LEAST = 64 << 10
"""Bytes an upload must bring in PORTAL_UPLOAD_SECONDS."""
LOOKED_AT = 64 << 20
"""Bytes between two looks at what is free on the disk."""
_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16})")
_OPEN_RANGE = re.compile(r"bytes \*/(\d{1,16})")
_NUMBER = re.compile(r"\d{1,16}")

Sha256 = Annotated[str, Path(description="sha256 of the whole file, 64 lower-case hexadecimal digits.")]


@dataclass(frozen=True)
class Piece:
    """Which bytes of a file a request brings."""

    offset: int
    length: int | None
    """None: as many as come."""
    size: int
    """Of the whole file."""


@router.head("/{sha256}", summary="How far an upload is", response_model=None)
def see_blob(
    request: Request,
    caller: AllowedCaller,  # noqa: ARG001 - asks for the role
    sha256: Sha256,
    size: Annotated[int | None, Query(ge=0, le=2**53, description="Bytes of the whole file, as announced.")] = None,
) -> Response:
    """200 with `Upload-Offset`, the byte to go on at, and `Upload-Complete`; 404 where nothing of it is here.

    Without ``size`` only whole files are found.
    """
    blobs = open_blobs(get_desk(request).settings)
    held = blobs.has(checked_name(sha256))
    if held is not None and size in (None, held):
        return _state(200, held, held, complete=True)
    received = blobs.begin(sha256, size).received if size is not None else 0
    return _state(200, received, size or 0, complete=False) if received else Response(status_code=404)


@router.put("/{sha256}", summary="Send a file, or a piece of it", response_model=None)
async def put_blob(request: Request, caller: AllowedCaller, sha256: Sha256) -> Response:  # noqa: ARG001 - asks for the role
    """The whole file as it is, or from any byte on with `Content-Range: bytes 0-99/1000`, or with `Upload-Offset` and
    `Upload-Length`. 201 when the file is whole and has this sha256, 202 with `Upload-Offset` while bytes are missing,
    200 when it was here already. Bytes that came before a connection broke are kept: HEAD says where to go on.

    409 `offset-mismatch` tells in `received` where to go on; 409 `integrity`: the bytes are others, nothing was kept.
    """
    settings, piece = get_desk(request).settings, read_piece(request)
    blobs = open_blobs(settings)
    body = _Body(request, settings.upload_seconds)
    try:
        held = await run_in_threadpool(blobs.has, checked_name(sha256))
        if held is not None and held == piece.size:
            answer = _state(200, held, held, complete=True)
        else:
            upload = blobs.begin(sha256, piece.size)
            async with _one_of(request, settings.max_uploads):
                answer = await _take(settings, upload, piece, body)
    except PortalError as error:
        answer = problems.answer(request, error)
    if (piece.length is None or piece.length - body.came > WORTH_READING) and not body.ended:
        # What is still on its way would be read for nothing.
        answer.headers["Connection"] = "close"
    return answer


def read_piece(request: Request) -> Piece:
    """What the headers say the body is; BadRequest where they say nothing or contradict each other."""
    length = _number(request, "content-length")
    told = request.headers.get("content-range")
    if told is not None:
        whole, nothing = _RANGE.fullmatch(told), _OPEN_RANGE.fullmatch(told)
        if nothing and not length:
            return Piece(int(nothing[1]), 0, int(nothing[1]))
        if whole is None or not int(whole[1]) <= int(whole[2]) < int(whole[3]):
            raise BadRequest(f"Content-Range is {told[:100]!r}.", "Write it as `bytes 0-99/1000`.")
        piece = Piece(int(whole[1]), int(whole[2]) - int(whole[1]) + 1, int(whole[3]))
        if length is not None and length != piece.length:
            raise BadRequest(
                f"Content-Range stands for {piece.length:,} bytes; {length:,} come.", "Correct one of them."
            )
        return piece
    offset, size = _number(request, "upload-offset"), _number(request, "upload-length")
    if size is None:
        if length is None or offset:
            raise BadRequest(
                "The size of the file is not told.",
                "Send Upload-Length (or Content-Range), or the whole with its length.",
            )
        size = length
    return Piece(offset or 0, length, size)


def _begin(settings: Settings, upload: Upload, piece: Piece) -> tuple[AbstractContextManager[Writing], Writing]:
    received = upload.received
    if piece.offset != received:
        raise OffsetMismatch(received, piece.offset)
    check_room(settings, piece.size, received)
    holding = upload.open_at(piece.offset)
    return holding, holding.__enter__()


async def _take(settings: Settings, upload: Upload, piece: Piece, body: _Body) -> Response:
    """Append the body; where the file is whole now, it gets its place while nobody else can write to it."""
    holding, writing = await run_in_threadpool(_begin, settings, upload, piece)
    failed: BaseException | None = None
    try:
        await _write(settings, writing, body)
        if writing.received < piece.size:
            return _state(202, writing.received, piece.size, complete=False)
        digest = await run_in_threadpool(writing.finish)
        return _created(digest.sha256, digest.size)
    except ClientDisconnect as error:
        failed = error
        # Nobody reads this answer; what came is kept.
        return Response(status_code=400)
    except BaseException as error:
        failed = error
        raise
    finally:
        # The hold goes even where the request is cancelled: asyncio lets a running thread end.
        await asyncio.shield(run_in_threadpool(_let_go, holding, failed))


def _let_go(holding: AbstractContextManager[Writing], failed: BaseException | None) -> None:
    holding.__exit__(type(failed) if failed else None, failed, None)


async def _write(settings: Settings, writing: Writing, body: _Body) -> None:
    """The body, buffer by buffer; a buffer is written while the next one comes."""
    pending: asyncio.Task[None] | None = None
    looked_at = writing.received
    try:
        async for buffer in body:
            if pending is not None:
                await pending
            if writing.received + len(buffer) - looked_at >= LOOKED_AT:
                looked_at = writing.received
                await run_in_threadpool(check_disk, settings, len(buffer))
            pending = asyncio.ensure_future(run_in_threadpool(partial(writing.write, buffer)))
    finally:
        if pending is not None:
            # Also where the body broke off: what came is to be kept.
            await asyncio.shield(pending)


class _Body:
    """The body of a request in buffers of about 1 MiB. No thread waits for a slow client."""

    def __init__(self, request: Request, seconds: float) -> None:
        self.came = 0
        """Bytes up to now."""
        self.ended = False
        self._request = request
        self._seconds = seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises TooSlow where it trickles, ClientDisconnect where it breaks off, after what came until then."""
        failed: Exception | None = None
        while not self.ended and failed is None:
            held: list[bytes] = []
            size = 0
            try:
                async with asyncio.timeout(self._seconds):
                    while size < BUFFER and not self.ended:
                        held.append(await self._part())
                        size += len(held[-1])
            except TimeoutError:
                if size < LEAST:
                    failed = TooSlow(
                        f"Fewer than {LEAST:,} bytes came in {self._seconds:g} seconds; the upload was cut off.",
                        "What came is kept: ask how far it is and go on there.",
                    )
            except ClientDisconnect as error:
                failed = error
            if size:
                self.came += size
                yield b"".join(held)
        if failed is not None:
            raise failed

    async def _part(self) -> bytes:
        message = await self._request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.ended = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


@asynccontextmanager
async def _one_of(request: Request, most: int) -> AsyncIterator[None]:
    """A place among the uploads this process takes at a time."""
    state = request.app.state
    running: int = getattr(state, "uploads", 0)
    if running >= most:
        raise Unavailable(f"{most:,} uploads are on their way already.", "Try again in a moment.")
    state.uploads = running + 1
    try:
        yield
    finally:
        state.uploads -= 1


def _number(request: Request, name: str) -> int | None:
    told = request.headers.get(name)
    if told is None:
        return None
    if not _NUMBER.fullmatch(told):
        raise BadRequest(f"{name} is {told[:50]!r}.", "Write a number of bytes.")
    return int(told)


def _created(sha256: str, size: int) -> Response:
    headers = {
        "Upload-Offset": str(size),
        "Upload-Length": str(size),
        "Upload-Complete": "?1",
        "Cache-Control": "no-store",
    }
    return Response(as_json({"sha256": sha256, "size": size}), 201, headers, "application/json")


def _state(status: int, received: int, size: int, complete: bool) -> Response:
    headers = {
        "Upload-Offset": str(received),
        "Upload-Length": str(size),
        "Upload-Complete": "?1" if complete else "?0",
        "Cache-Control": "no-store",
    }
    return Response(status_code=status, headers=headers)
