"""Block digests of bytes, as hashing a file of them would have stored them."""

from __future__ import annotations

import hashlib

from blake3 import blake3

from portal.storage.blocks import KnownBlocks


def known_blocks(data: bytes, block: int) -> KnownBlocks:
    """Digests of ``data`` in blocks of ``block`` bytes."""
    digests = b"".join(blake3(data[at : at + block]).digest() for at in range(0, len(data), block))
    return KnownBlocks(hashlib.sha256(data).hexdigest(), len(data), block, digests)
