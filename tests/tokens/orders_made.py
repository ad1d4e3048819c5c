"""Data orders as manifests would expand to."""

from __future__ import annotations

from typing import Any

from portal.manifest.expand import FileEntry, OrderEntry


def order(kind: str = "sequential", chunks: tuple[str, ...] = ("c0", "c1", "c2"), **given: Any) -> OrderEntry:
    """An order of steps 1-100 unless told otherwise."""
    default = {"sequential": "exact", "index": "exact", "permutation": "reconstructed", "unknown": "unknown"}[kind]
    fields: dict[str, Any] = {
        "position": 0, "first_step": 1, "last_step": 100, "file": FileEntry("order.npy") if kind == "index" else None,
        "dtype": None, "rng": "numpy-RandomState" if kind == "permutation" else None,
        "seed": 7 if kind == "permutation" else None, "draw": 0, "per_chunk": False, "steps_per_chunk": None,
        "start": 0, "confidence": default, "assumption": "",
    }  # fmt: skip
    return OrderEntry(chunks=chunks, kind=kind, **(fields | given))
