"""How an entry is bound to the one before it: arithmetic that anybody can repeat, in any language.

``hash = sha256(prev + "|" + seq + "|" + body)``, all of it UTF-8, where ``prev`` is the hash of the entry before (64 zeros
for the first), ``seq`` is written in decimal digits, and ``body`` is the JSON array
``[at_ms, actor, action, object, run, detail]`` as JSON.stringify writes it: no blanks, nothing escaped that need not be. ``detail`` stands in it as the text it
is kept as, so no number in it is ever written anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from portal.catalog.rows import storable
from portal.manifest.canonical import canonical_bytes

GENESIS = "0" * 64
"""What the first entry follows."""
MAX_DETAIL = 32 << 10
"""Bytes of an entry's detail: an entry tells what was done, files and manifests lie elsewhere."""


@dataclass(frozen=True)
class Change:
    """What is put on record, before it has its place."""

    at_ms: int
    actor: str
    action: str
    object: str
    run: str | None
    detail: str
    """Canonical JSON."""


def link(prev: str, seq: int, change: Change) -> str:
    """The hash of an entry."""
    body = [change.at_ms, change.actor, change.action, change.object, change.run, change.detail]
    return hashlib.sha256(b"%s|%d|%s" % (prev.encode(), seq, orjson.dumps(body))).hexdigest()


def written_detail(detail: Mapping[str, Any]) -> str:
    """``detail`` as it is kept; of one that is too long only its names and its digest."""
    body = canonical_bytes(storable(dict(detail)))
    if len(body) > MAX_DETAIL:
        told = {"left_out": sorted(detail)[:100], "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        body = canonical_bytes(storable(told))
    return body.decode()
