"""Where bytes live: the Store protocol and `open_store`, which picks one by the scheme of a URI.

A store never interprets what it reads. Offsets and lengths are bytes.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from portal.errors import Unavailable
from portal.settings import Settings
from portal.storage.local import LocalStore
from portal.storage.store import Meter, Store, StoredFile

if TYPE_CHECKING:
    from portal.storage.ranged import RangedStore
    from portal.storage.wire import Wire

__all__ = ["REMOTE_SCHEMES", "LocalStore", "Meter", "Store", "StoredFile", "open_remote", "open_store", "refuse_store"]

REMOTE_SCHEMES = ("https", "http", "s3", "hf")
"""Schemes of files elsewhere that this portal reads by range."""


def open_store(uri: str, settings: Settings) -> Store:
    """The store that holds ``uri``; those elsewhere are shared by the whole process, connections and all.

    Raises Unavailable for a scheme whose bytes this portal cannot read itself.
    """
    if uri.startswith("file://"):
        return LocalStore()
    return open_remote(uri, settings)


def open_remote(uri: str, settings: Settings) -> RangedStore:
    """The store of a file elsewhere; Unavailable where the portal cannot or may not read it."""
    refuse_store(uri, settings)
    scheme = uri.partition("://")[0]
    return _open("https" if scheme == "http" else scheme, settings, os.getpid())


def refuse_store(uri: str, settings: Settings) -> None:
    """Unavailable where no store reads ``uri``, or this portal's may not; asks nobody."""
    scheme, _, rest = uri.partition("://")
    if scheme not in REMOTE_SCHEMES:
        raise Unavailable(
            f"{uri} lies outside this portal; it knows where the bytes are but holds no copy.",
            "Download it from its own address, or publish a local copy.",
        )
    bucket = rest.partition("/")[0]
    allowed = [name.strip() for name in settings.s3_buckets.split(",") if name.strip()]
    own = settings.storage_url.startswith(f"s3://{bucket}/") or settings.storage_url == f"s3://{bucket}"
    if scheme == "s3" and allowed and bucket not in allowed and not own:
        raise Unavailable(
            f"{rest.rpartition('/')[2][:300]} lies in a bucket that this portal does not read.",
            "Its operator can name the bucket in PORTAL_S3_BUCKETS if it is meant.",
        )


@lru_cache(maxsize=8)
def _open(scheme: str, settings: Settings, process: int) -> RangedStore:  # noqa: ARG001 - connections survive no fork
    # Loaded when first needed: commands and pages of a portal whose files are all here never wait for them.
    if scheme == "s3":
        from portal.storage.s3 import S3Place, S3Store  # noqa: PLC0415

        place = S3Place(settings.s3_endpoint, settings.s3_public_endpoint, settings.s3_region, settings.presign_seconds)
        return S3Store(place, _wire(settings).patience)
    if scheme == "hf":
        from portal.storage.hub import HubStore  # noqa: PLC0415

        endpoint = settings.hf_endpoint
        return HubStore(
            _wire(settings, urlsplit(endpoint).hostname or ""), endpoint, settings.hf_token.get_secret_value()
        )
    from portal.storage.https import HttpsStore  # noqa: PLC0415

    return HttpsStore(_wire(settings))


def _wire(settings: Settings, trusted: str = "") -> Wire:
    from portal.storage.addresses import Admission  # noqa: PLC0415
    from portal.storage.retries import Patience  # noqa: PLC0415
    from portal.storage.wire import Wire  # noqa: PLC0415

    patience = Patience(settings.remote_attempts, settings.remote_timeout)
    return Wire(patience, Admission(settings.private_hosts, [trusted]))
