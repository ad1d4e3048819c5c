"""Many byte ranges as few requests: neighbours joined, long ones cut, and the answers taken apart again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_GAP = 64 << 10
"""Bytes between two ranges that cost less than another request."""
MAX_WASTE = 0.1
"""Bytes read in vain, as a share of those asked for."""
MANY = 16
"""Requests that go side by side. Where there are more, each costs its time, and what lies between near ranges is read
along with them: a server that needs a millisecond for a request sends 64 KiB in less."""

Span = tuple[int, int]
"""(offset, length)"""


@dataclass(frozen=True)
class Joined:
    """What is to be read for the ranges asked for."""

    ranges: Sequence[Span]
    runs: list[list[int]]
    """Places in ``ranges`` that one stretch of bytes covers."""
    stretches: list[Span]
    pieces: list[Span]
    """The stretches cut to the size of a request; end to end they are the stretches."""

    def take_apart(self, pieces: Sequence[bytes]) -> list[bytes]:
        """The bytes of every range, from those of all pieces, in the order asked for."""
        found: list[bytes] = [b""] * len(self.ranges)
        coming = iter(pieces)
        for (begin, length), members in zip(self.stretches, self.runs, strict=True):
            parts: list[bytes] = []
            left = length
            while left:
                parts.append(next(coming))
                left -= len(parts[-1])
            whole = parts[0] if len(parts) == 1 else b"".join(parts)
            for k in members:
                offset, size = self.ranges[k]
                found[k] = whole if size == length else whole[offset - begin : offset - begin + size]
        return found


def join_ranges(ranges: Sequence[Span], piece: int) -> Joined:
    """Join ranges that touch, overlap or lie near each other; no piece is longer than ``piece`` bytes.

    Little is read in vain, unless that would take more than `MANY` requests.
    """
    runs, stretches = _join(ranges, MAX_WASTE)
    if len(stretches) > MANY:
        runs, stretches = _join(ranges, math.inf)
    pieces = [(at, min(piece, b + n - at)) for b, n in stretches for at in range(b, b + n, piece)]
    return Joined(ranges, runs, stretches, pieces)


def _join(ranges: Sequence[Span], most_waste: float) -> tuple[list[list[int]], list[Span]]:
    runs: list[list[int]] = []
    stretches: list[Span] = []
    begin = end = wanted = 0
    for k in sorted(range(len(ranges)), key=ranges.__getitem__):
        offset, length = ranges[k]
        stop = offset + length
        fresh = max(stop - max(offset, end), 0)
        waste = max(stop, end) - begin - wanted - fresh
        if runs and (offset <= end or (offset - end <= MAX_GAP and waste <= most_waste * (wanted + fresh))):
            end, wanted = max(stop, end), wanted + fresh
            runs[-1].append(k)
            stretches[-1] = begin, end - begin
        else:
            begin, end, wanted = offset, stop, length
            runs.append([k])
            stretches.append((begin, length))
    return runs, stretches
