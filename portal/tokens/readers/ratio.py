"""A limit against files that decompress to far more than any real text would."""

from __future__ import annotations

from portal.errors import TooLarge

MAX_RATIO = 100
"""Decompressed bytes per compressed byte; token ids as text compress about 4:1."""
ALWAYS_FINE = 64 << 20
"""Decompressed bytes that are no danger at any ratio."""
BLOCK = 1 << 20
"""Bytes decompressed at once, so that a bomb is met long before it fills the memory."""


class RatioGuard:
    """Counts what comes out of one compressed file."""

    def __init__(self, path: str, compressed: int) -> None:
        self.path = path
        self.limit = max(compressed * MAX_RATIO, ALWAYS_FINE)
        self.total = 0

    def count(self, length: int) -> None:
        """Add decompressed bytes; TooLarge beyond the limit."""
        self.total += length
        if self.total > self.limit:
            raise TooLarge(
                f"{self.path} decompresses to more than {self.limit:,} bytes, over {MAX_RATIO} times its size.",
                "No training text compresses like that; if it is meant, publish it uncompressed.",
            )
