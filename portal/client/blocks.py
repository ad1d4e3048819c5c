"""Which parts of a damaged file are still sound: told by the digests of its blocks, where a portal has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

from portal.client.api import Portal
from portal.errors import PortalError

ALGORITHM = "blake3"
READ = 1 << 20


def sound_parts(
    portal: Portal, path: Path, sha256: str, part_size: int, advance: Callable[[int], None] = lambda _count: None
) -> set[int]:
    """Numbers of the parts of ``path`` that are what was published under ``sha256``.

    Empty where the portal has no digests of blocks as large as a part: then nothing tells which are sound.
    """
    digests = _published(portal, sha256, part_size)
    found: set[int] = set()
    with path.open("rb") as file:
        for number, digest in enumerate(digests):
            if _digest_of_block(file.read, part_size, advance) == digest:
                found.add(number)
    return found


def _digest_of_block(read: Callable[[int], bytes], size: int, advance: Callable[[int], None]) -> str:
    digest = blake3()
    left = size
    while left and (piece := read(min(left, READ))):
        digest.update(piece)
        advance(len(piece))
        left -= len(piece)
    return digest.hexdigest()


def _published(portal: Portal, sha256: str, part_size: int) -> list[Any]:
    try:
        told = portal.blocks(sha256)
        fits = (told["algorithm"], told["block_size"]) == (ALGORITHM, part_size)
        return list(told["digests"]) if fits and isinstance(told["digests"], list) else []
    except PortalError:  # a file from elsewhere, or an older portal
        return []
