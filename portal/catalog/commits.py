"""Commit ids of revisions: 40 hexadecimal digits that follow from content, and lead back to it without an index.

The first 28 digits are those of the sha1 of the revision's manifest; the last 12 hold the revision's number, mixed
with the others so that they look like the rest. Whoever is given an id reads the number, makes that revision's id
anew and compares: the same work among ten revisions and among a million.
"""

from __future__ import annotations

import hashlib
import re

COMMIT = re.compile(r"^[0-9a-f]{40}$")
NUMBERS = 1 << 40
"""Revision numbers lie below this; an id that decodes to more was never handed out."""
_DIGEST = 28


def make_commit(manifest: bytes, number: int) -> str:
    """The id of the revision ``number`` (0 to 2^40 - 1) with this canonical manifest."""
    digest = hashlib.sha1(manifest, usedforsecurity=False).hexdigest()[:_DIGEST]
    return f"{digest}{number ^ _mask(digest):012x}"


def number_in(commit: str) -> int | None:
    """The number of the revision an id may belong to; None when it belongs to none."""
    if not COMMIT.match(commit):
        return None
    number = int(commit[_DIGEST:], 16) ^ _mask(commit[:_DIGEST])
    return number if number < NUMBERS else None


def _mask(digest: str) -> int:
    return int(hashlib.sha1(digest.encode(), usedforsecurity=False).hexdigest()[:12], 16)
