"""Byte ranges: many small ones become few reads, and never more bytes than stated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from portal.errors import PortalError

MAX_GAP = 4096
"""Bytes between two ranges that are read rather than jumped over: one page."""
MAX_WASTE = 0.1
"""Bytes read in vain, as a share of those asked for."""
PARALLEL_READS = 8

Read = Callable[[int, int, int], bytes]
"""``(file, offset, length)`` -> bytes."""


@dataclass(frozen=True)
class Span:
    """``length`` bytes of the ``file``-th file from ``offset``."""

    file: int
    offset: int
    length: int


@dataclass(frozen=True)
class Block:
    """One read that covers several spans; ``members`` are their places in the list asked for."""

    file: int
    offset: int
    length: int
    members: tuple[int, ...]


def coalesce(spans: Sequence[Span], max_gap: int = MAX_GAP, max_waste: float = MAX_WASTE) -> list[Block]:
    """Join ranges that touch, overlap or lie within ``max_gap`` bytes, while the waste stays within its share.

    Every span lies inside exactly one block; blocks come in file and offset order.
    """
    blocks: list[Block] = []
    current: _Growing | None = None
    for index in sorted(range(len(spans)), key=lambda k: (spans[k].file, spans[k].offset, spans[k].length)):
        span = spans[index]
        if current is not None and current.takes(span, max_gap, max_waste):
            current.add(index, span)
            continue
        if current is not None:
            blocks.append(current.block())
        current = _Growing(index, span)
    return blocks if current is None else [*blocks, current.block()]


def fetch(spans: Sequence[Span], read: Read, parallel: bool = False) -> list[memoryview | PortalError]:
    """The bytes of every span, in the order asked for; a range that cannot be read is its own error.

    With ``parallel`` blocks are read by several threads, which pays where a read waits for a network.
    """
    blocks = coalesce(spans)
    if parallel and len(blocks) > 1:
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            results = list(pool.map(lambda block: _read_block(block, spans, read), blocks))
    else:
        results = [_read_block(block, spans, read) for block in blocks]
    found: dict[int, memoryview | PortalError] = {}
    for result in results:
        found.update(result)
    return [found[k] for k in range(len(spans))]


class _Growing:
    """A block while it takes in further spans, in ascending offset order."""

    def __init__(self, index: int, span: Span) -> None:
        self.file, self.offset, self.end = span.file, span.offset, span.offset + span.length
        self.wanted = span.length
        self.members = [index]

    def takes(self, span: Span, max_gap: int, max_waste: float) -> bool:
        gap = span.offset - self.end
        if span.file != self.file or gap > max_gap:
            return False
        wanted = self.wanted + self._fresh(span)
        length = max(self.end, span.offset + span.length) - self.offset
        return gap <= 0 or length - wanted <= max_waste * wanted

    def add(self, index: int, span: Span) -> None:
        self.wanted += self._fresh(span)
        self.end = max(self.end, span.offset + span.length)
        self.members.append(index)

    def block(self) -> Block:
        return Block(self.file, self.offset, self.end - self.offset, tuple(self.members))

    def _fresh(self, span: Span) -> int:
        return max(span.offset + span.length - max(span.offset, self.end), 0)


def _read_block(block: Block, spans: Sequence[Span], read: Read) -> dict[int, memoryview | PortalError]:
    try:
        view = memoryview(read(block.file, block.offset, block.length))
    except PortalError as error:
        if len(block.members) == 1:
            return {block.members[0]: error}
        # One bad range must not take its neighbours along: read them one by one.
        return {k: _read_alone(spans[k], read) for k in block.members}
    return {
        k: view[spans[k].offset - block.offset : spans[k].offset - block.offset + spans[k].length]
        for k in block.members
    }


def _read_alone(span: Span, read: Read) -> memoryview | PortalError:
    try:
        return memoryview(read(span.file, span.offset, span.length))
    except PortalError as error:
        return error
