"""The log of a job to be read by people: its end, a stretch of it, and the lines that hold a word."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlmodel import Session, col

from portal.catalog.jobs.told import text_of, unfinished
from portal.models import JobAttempt, JobLog

MAX_LINE = 4000
"""Bytes of a found line that are shown."""
_CARRIED = 1 << 20
"""Bytes of a line without end that are searched together."""


@dataclass(frozen=True)
class LogPart:
    """Text of one attempt, in the order it came."""

    attempt: int
    start: int
    """Byte of the attempt's log at which it begins."""
    text: str


@dataclass(frozen=True)
class LogWindow:
    """A stretch of one attempt's log; ``end`` is where the next one begins."""

    attempt: int
    start: int
    end: int
    kept: int
    """Bytes there are."""
    text: str


@dataclass(frozen=True)
class LogHit:
    """A line that holds what was looked for."""

    attempt: int
    start: int
    """Byte at which the line begins."""
    text: str


def read_tail(session: Session, job_id: int, upto: int, size: int) -> list[LogPart]:
    """The last ``size`` bytes (or a little more) of what the job had told by its number ``upto``, by attempt."""
    asked = (
        select(JobLog)
        .where(col(JobLog.job_id) == job_id, col(JobLog.number) <= upto)
        .order_by(col(JobLog.number).desc())
        .execution_options(yield_per=4)
    )
    parts: list[LogPart] = []
    left = size
    with session.scalars(asked) as pieces:
        for piece in pieces:
            text = text_of(piece)
            start = piece.offset - len(piece.lead)
            if len(text) > left:
                start += len(text[:-left].encode("utf-8", "replace"))
                text = text[-left:]
            if parts and parts[-1].attempt == piece.attempt:
                parts[-1] = LogPart(piece.attempt, start, text + parts[-1].text)
            else:
                parts.append(LogPart(piece.attempt, start, text))
            left -= len(text)
            if left <= 0:
                break
    return parts[::-1]


def list_logged(session: Session, job_id: int) -> dict[int, int]:
    """Bytes of log that are kept of each attempt, by number."""
    asked = select(col(JobAttempt.number), col(JobAttempt.log_kept)).where(col(JobAttempt.job_id) == job_id)
    return {row.number: row.log_kept for row in session.execute(asked.order_by(col(JobAttempt.number)))}


def read_window(session: Session, job_id: int, attempt: int, start: int, size: int) -> LogWindow:
    """``size`` bytes from ``start`` of one attempt's log, less what begins a line that ends beyond them."""
    mine = (col(JobLog.job_id) == job_id) & (col(JobLog.attempt) == attempt)
    kept = session.execute(select(func.max(col(JobLog.offset) + func.length(col(JobLog.data)))).where(mine)).scalar()
    kept = int(kept or 0)
    start = max(min(start, kept), 0)
    last = select(func.max(col(JobLog.offset))).where(mine, col(JobLog.offset) <= start).scalar_subquery()
    asked = select(col(JobLog.offset), col(JobLog.data)).where(
        mine, col(JobLog.offset) >= func.coalesce(last, 0), col(JobLog.offset) < start + size
    )
    data = bytearray()
    for piece in session.execute(asked.order_by(col(JobLog.offset)).execution_options(yield_per=4)):
        data += piece.data[max(start - piece.offset, 0) : max(start + size - piece.offset, 0)]
    if start + len(data) < kept:
        cut = data.rfind(b"\n") + 1
        del data[cut or len(data) - unfinished(bytes(data)) :]
    return LogWindow(attempt, start, start + len(data), kept, data.decode("utf-8", "replace"))


def search_log(session: Session, job_id: int, needle: str, limit: int = 200) -> tuple[list[LogHit], bool]:
    """Lines that hold ``needle`` in any case, of all attempts in order, at most ``limit``; whether there are more."""
    wanted = needle.lower().encode("utf-8", "replace")
    hits: list[LogHit] = []
    with closing(_lines(session, job_id)) as lines:
        for attempt, start, line in lines:
            if wanted not in line.lower():
                continue
            if len(hits) == limit:
                return hits, True
            hits.append(LogHit(attempt, start, _around(line, wanted)))
    return hits, False


def _around(line: bytes, wanted: bytes) -> str:
    """As much of a line as is shown, with what was found in it."""
    at = max(line.lower().find(wanted) - 200, 0) if len(line) > MAX_LINE else 0
    text = line[at : at + MAX_LINE].decode("utf-8", "replace").rstrip("\r")
    return ("…" if at else "") + text + ("…" if at + MAX_LINE < len(line) else "")


def _lines(session: Session, job_id: int) -> Generator[tuple[int, int, bytes], None, None]:
    """(attempt, first byte, bytes without the line's end); a line of more than 1 MiB comes in several."""
    pieces = (
        select(col(JobLog.attempt), col(JobLog.offset), col(JobLog.data))
        .where(col(JobLog.job_id) == job_id)
        .order_by(col(JobLog.attempt), col(JobLog.offset))
        .execution_options(yield_per=4)
    )
    attempt, start, carried = 0, 0, b""
    with session.execute(pieces) as rows:
        for piece in rows:
            if piece.attempt != attempt:
                if carried:
                    yield attempt, start, carried
                attempt, start, carried = piece.attempt, piece.offset, b""
            *whole, carried = (carried + piece.data).split(b"\n")
            for line in whole:
                yield attempt, start, line
                start += len(line) + 1
            if len(carried) > _CARRIED:
                yield attempt, start, carried
                start, carried = start + len(carried), b""
    if carried:
        yield attempt, start, carried
