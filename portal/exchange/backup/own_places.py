"""Places of files in the portal's own store: written in a backup so that they mean the store it is restored into."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from portal.storage.blobs import BlobStore, is_name, key_of
from portal.storage.local import path_of

PREFIX = "own:"
_ANY = "0" * 64


@dataclass
class OwnPlaces:
    """The store of one portal, by the beginning of its addresses."""

    root: str
    named: set[str] = field(default_factory=set)
    """sha256 of every blob that a place asked for named."""
    elsewhere: int = 0
    """Places on this machine that are not in the store."""

    @classmethod
    def of(cls, blobs: BlobStore) -> OwnPlaces:
        """Of a store."""
        return cls(blobs.location(_ANY).removesuffix(key_of(_ANY)))

    def portable(self, uri: str) -> str:
        """``own:sha256/…`` for a place in the store; any other as it is."""
        sha256 = uri.rpartition("/")[2]
        if is_name(sha256) and uri == self.root + key_of(sha256):
            self.named.add(sha256)
            return PREFIX + key_of(sha256)
        self.elsewhere += uri.startswith("file://")
        return uri

    def here(self, uri: str) -> str:
        """The place in this store that such an address means."""
        return self.root + uri.removeprefix(PREFIX) if uri.startswith(PREFIX) else uri

    def path(self, sha256: str) -> Path | None:
        """The file of a blob where the store is a folder of this machine."""
        return path_of(self.root + key_of(sha256)) if self.root.startswith("file://") else None
