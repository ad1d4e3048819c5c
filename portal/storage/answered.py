"""What an HTTP answer to a range or a HEAD request says, and what it must not say."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from portal.errors import DataFault, FileMissing, PortalError, Unavailable
from portal.storage.ranged import Piece
from portal.storage.retries import Passing
from portal.storage.wire import Reply

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")

CutShort = Callable[[int | None], DataFault]


def read_piece(reply: Reply, name: str, offset: int, length: int, cut_short: CutShort) -> Piece:
    """The bytes of an answered range. Raises what `refusal` makes of other answers, Unavailable for a server that
    ignores ranges or lies about them, Passing for an answer that is short."""
    if reply.status == 416:
        ends = reply.headers.get("content-range", "").rpartition("/")[2]
        raise cut_short(int(ends) if ends.isdecimal() else None)
    if reply.status not in (200, 206):
        raise refusal(reply, name)
    if reply.headers.get("content-encoding", "identity") != "identity":
        raise Unavailable(f"{name} is sent compressed, so its bytes cannot be counted.", "Use a server that does not.")
    etag = reply.headers.get("etag", "")
    if reply.status == 200:
        # A whole file that is exactly what was asked for is as good.
        if offset == 0 and not reply.overlong and len(reply.body) == length:
            return Piece(reply.body, length, etag)
        raise Unavailable(
            f"{name} comes from a server that ignores byte ranges.", "Keep the file where ranges can be read."
        )
    told = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", ""))
    if told is None:
        raise Unavailable(f"{name}: the server does not say which bytes it sent.", "Use a server that does.")
    first, last = int(told[1]), int(told[2])
    size = int(told[3]) if told[3].isdecimal() else None
    if size is not None and size < offset + length:
        raise cut_short(size)
    if (first, last) != (offset, offset + length - 1) or reply.overlong:
        raise Unavailable(
            f"{name}: the server sent bytes {first:,} to {last:,} where {offset:,} to {offset + length - 1:,} "
            "were asked for.",
            "Use a server that keeps to the ranges it is asked for.",
        )
    if len(reply.body) != length:
        raise Passing(f"it sent {len(reply.body):,} bytes and said {length:,}")
    return Piece(reply.body, size, etag)


def size_of(reply: Reply) -> int | None:
    """Bytes of the whole file, from the answer to a HEAD or a one-byte range request."""
    if reply.status == 206:
        told = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", ""))
        return int(told[3]) if told and told[3].isdecimal() else None
    length = reply.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 19 else None


def modified_of(reply: Reply) -> int | None:
    """``Last-Modified`` in nanoseconds, None where it is not told."""
    try:
        return int(parsedate_to_datetime(reply.headers["last-modified"]).timestamp()) * 1_000_000_000
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def refusal(reply: Reply, name: str) -> PortalError:
    """The error of an answer that is no file."""
    if reply.status in (404, 410):
        return FileMissing(f"{name} is not there.", "Restore it, or correct its address in the manifest.")
    if reply.status in (401, 403):
        return Unavailable(
            f"{name} is not for everyone: the server answered {reply.status}.",
            "If the address carries a signature it has expired; otherwise give the portal access to it.",
        )
    return Unavailable(f"{name}: the server answered {reply.status}.", "Look at the server's own log.")
