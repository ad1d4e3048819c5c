"""Byte ranges: many small ones become few reads, and never more bytes than stated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from portal.errors import PortalError

MAX_GAP = 4096
"""Bytes between two ranges that are read rather than jumped over: one page."""
MAX_WASTE = 0.1
"""Bytes read in vain, as a share of those asked for."""
PARALLEL_READS = 8

Read = Callable[[int, int, int], bytes]
"""``(file, offset, length)`` -> bytes."""


class Span(NamedTuple):
    """``length`` bytes of the ``file``-th file from ``offset``."""

    file: int
    offset: int
    length: int


class Block(NamedTuple):
    """One read that covers several spans; ``members`` are their places in the list asked for."""

    file: int
    offset: int
    length: int
    members: list[int]


def coalesce(spans: Sequence[Span], max_gap: int = MAX_GAP, max_waste: float = MAX_WASTE) -> list[Block]:
    """Join ranges that touch, overlap or lie within ``max_gap`` bytes, while the waste stays within its share.

    Every span lies inside exactly one block; blocks come in file and offset order.
    """
    blocks: list[Block] = []
    file, begin, end, wanted = -1, 0, 0, 0
    members: list[int] = []
    for index in sorted(range(len(spans)), key=spans.__getitem__):
        span_file, offset, length = spans[index]
        if span_file == file and offset - end <= max_gap:
            stop = offset + length
            fresh = stop - max(offset, end) if stop > end else 0
            waste = max(stop, end) - begin - wanted - fresh
            if offset <= end or waste <= max_waste * (wanted + fresh):
                end, wanted = max(stop, end), wanted + fresh
                members.append(index)
                continue
        if members:
            blocks.append(Block(file, begin, end - begin, members))
        file, begin, end, wanted, members = span_file, offset, offset + length, length, [index]
    return [*blocks, Block(file, begin, end - begin, members)] if members else blocks


def fetch(spans: Sequence[Span], read: Read, parallel: bool = False) -> list[bytes | memoryview | PortalError]:
    """The bytes of every span, in the order asked for; a range that cannot be read is its own error.

    With ``parallel`` blocks are read by several threads, which pays where a read waits for a network.
    """
    blocks = coalesce(spans)
    found: list[bytes | memoryview | PortalError] = [b""] * len(spans)
    if parallel and len(blocks) > 1:
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            list(pool.map(lambda block: _read_block(block, spans, read, found), blocks))
    else:
        for block in blocks:
            _read_block(block, spans, read, found)
    return found


def _read_block(block: Block, spans: Sequence[Span], read: Read, found: list[bytes | memoryview | PortalError]) -> None:
    file, begin, length, members = block
    try:
        whole = read(file, begin, length)
    except PortalError as error:
        if len(members) == 1:
            found[members[0]] = error
            return
        # One bad range must not take its neighbours along: read them one by one.
        for k in members:
            _read_block(Block(*spans[k], [k]), spans, read, found)
        return
    if len(members) == 1:
        found[members[0]] = whole
        return
    view = memoryview(whole)
    for k in members:
        offset = spans[k].offset - begin
        found[k] = view[offset : offset + spans[k].length]
