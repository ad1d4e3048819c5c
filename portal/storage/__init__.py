"""Where bytes live: the Store protocol and `open_store`, which picks one by the scheme of a URI.

A store never interprets what it reads. Offsets and lengths are bytes.
"""

from __future__ import annotations

from portal.errors import Unavailable
from portal.settings import Settings
from portal.storage.local import LocalStore
from portal.storage.store import Store, StoredFile

__all__ = ["LocalStore", "Store", "StoredFile", "open_store"]


def open_store(uri: str, settings: Settings) -> Store:  # noqa: ARG001 - stores elsewhere need their settings
    """The store that holds ``uri``.

    Raises Unavailable for a scheme whose bytes this portal cannot read itself.
    """
    scheme = uri.partition("://")[0]
    if scheme == "file":
        return LocalStore()
    raise Unavailable(
        f"{uri} lies outside this portal; it knows where the bytes are but holds no copy.",
        "Download it from its own address, or publish a local copy.",
    )
