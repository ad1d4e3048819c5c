"""What kind of request one is, by its method and address: what it costs, and what it may bring."""

from __future__ import annotations

import re
from dataclasses import dataclass

READS, FILES, COSTLY, WRITES, WORKERS, SIGN_INS, BAD_TOKENS = (
    "reads",
    "files",
    "costly",
    "writes",
    "workers",
    "sign-ins",
    "bad-tokens",
)
"""Each has a quota of its own (see `portal.web.door.rates`)."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_FREE = re.compile(r"^/(static/|healthz$|readyz$|metrics$)")
"""Small and asked by machines that must never be told to come later."""
_FILES = re.compile(
    r"^/files/|^/(datasets/)?([^/]+/){1,2}resolve/|^/api/(models|datasets)(/|$)|^/api/v1/(blocks|blobs)/"
)
"""What clients of the Hub and downloaders ask by the thousand."""
_COSTLY = re.compile(
    r"/(tokens|tensors|rows|figure|figure\.csv|lanes|provenance|croissant|model\.sig|pair\.(zip|sig)|submit|preview|plan)$"
    r"|^(/api/v1)?/(search|compare|r)(/|$)|\.(parquet|csv)$"
)
_WORKERS = re.compile(r"^/api/v1/(workers(/|$)|jobs/[^/]+/attempts/)")
_SIGN_IN = re.compile(r"^/sign-in(/|$)")

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Brings:
    """What the body of a request may be."""

    most: int
    """Bytes; 0: as many as the endpoint takes, which reads them itself."""
    whole: bool = True
    """Whether it is read before the endpoint is called."""
    fills_disk: bool = True
    """Whether what it brings needs room on the portal's disk."""
    own_pace: bool = False
    """Whether the endpoint itself cuts off what trickles."""


_SMALL = Brings(MIB)
_BRINGS: tuple[tuple[re.Pattern[str], Brings], ...] = (
    (re.compile(r"^/api/v1/blobs/"), Brings(0, whole=False, fills_disk=False, own_pace=True)),
    (re.compile(r"^/api/v1/releases/check$"), Brings(0, whole=False, fills_disk=False)),
    (re.compile(r"^/api/v1/releases$"), Brings(0, whole=False)),
    (re.compile(r"^/api/v1/jobs/[^/]+/attempts/[^/]+/logs$"), Brings(4 * MIB, whole=False)),
    (re.compile(r"^/api/v1/jobs/[^/]+/attempts/[^/]+/(metrics|outputs)$"), Brings(8 * MIB)),
    # Who is at work must be able to say that it is alive or has ended, and nothing of it needs much room.
    (re.compile(r"^/api/v1/jobs/[^/]+/attempts/|^/api/v1/workers"), Brings(MIB, fills_disk=False)),
    (
        re.compile(r"^/api/(models|datasets)/|/(cancel|drain|preview)$|^/sign-|^/account/|^/api/v1/tokens"),
        Brings(MIB, fills_disk=False),
    ),
)


def kind_of(method: str, path: str) -> str:
    """The kind whose quota a request counts for; empty for what is never limited."""
    if _FREE.match(path):
        return ""
    if _FILES.match(path):
        return FILES
    if _WORKERS.match(path):
        return WORKERS if method not in SAFE else READS
    if _SIGN_IN.match(path) and (method not in SAFE or path != "/sign-in"):
        return SIGN_INS
    if method not in SAFE:
        return COSTLY if path.endswith("/preview") else WRITES
    return COSTLY if _COSTLY.search(path) else READS


def brings(path: str) -> Brings:
    """What a request that is no mere question may bring there."""
    for pattern, found in _BRINGS:
        if pattern.search(path):
            return found
    return _SMALL
