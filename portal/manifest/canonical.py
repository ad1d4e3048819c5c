"""One text for one JSON value, so that a digest of it means the value and not how somebody wrote it."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_bytes(value: Any) -> bytes:
    """Keys sorted, nothing between tokens, UTF-8, numbers as Python's `json` writes them; ValueError for NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def canonical_digest(value: Any) -> str:
    """sha256 of `canonical_bytes`, in hexadecimal."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()
