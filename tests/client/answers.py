"""Pairs as a portal would answer them, made by hand so that they can lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

ORDER = {"kind": "sequential", "confidence": "exact", "assumption": "", "reason": "Exact."}


def file_view(path: str, url: str | None, body: bytes | None = None, role: str = "weights", **changes: Any) -> Any:
    """A file of a pair; size and digest are those of ``body``, unknown without one."""
    known = {
        "size": None if body is None else len(body),
        "sha256": None if body is None else hashlib.sha256(body).hexdigest(),
    }
    return {"path": path, "url": url, "role": role, "state": "verified", "location": "local"} | known | changes


def pair_view(checkpoint: list[Any], data: Sequence[Any] = (), **changes: Any) -> Any:
    """A pair at step 5 of these files."""
    return {
        "run": "lab/run",
        "version": 1,
        "step": 5,
        "checkpoint": {"step": 5, "location": "hf://lab/run", "files": checkpoint},
        "data": {
            "direction": "next",
            "first_step": 6,
            "last_step": 10,
            "rows": 20,
            "order": ORDER,
            "chunks": [{"name": "c", "rows": 20, "files": list(data)}] if data else [],
            "order_files": [],
        },
    } | changes
