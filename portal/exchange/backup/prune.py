"""Forget old backups: their documents first, then what no other backup refers to."""

from __future__ import annotations

from dataclasses import dataclass, field

from portal.exchange.backup.document import Manifest
from portal.exchange.backup.places import BackupPlace
from portal.exchange.backup.verify import blobs_of, files_of, open_document


@dataclass
class Pruned:
    """What went."""

    backups: list[str] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0


def keep_newest(place: BackupPlace, count: int) -> Pruned:
    """Keep the newest ``count`` backups, at least one. A damaged one among these ends it before anything is removed.

    Only where nobody else makes a backup at the same place.
    """
    gone = Pruned()
    with place.writing():
        ids = place.ids()
        needed: set[str] = set()
        for id in ids[-max(count, 1) :]:
            needed |= _named(place, open_document(place, id).manifest)
        for id in ids[: -max(count, 1)]:
            place.forget(id)
            gone.backups.append(id)
        for blob in list(place.blobs.list_held()):
            if blob.sha256 not in needed:
                place.blobs.remove(blob.sha256)
                gone.objects += 1
                gone.bytes += blob.size
    return gone


def _named(place: BackupPlace, manifest: Manifest) -> set[str]:
    listings = [part.rows for part in manifest.tables] + [manifest.blobs, manifest.files]
    named = {piece.sha256 for listing in listings for piece in listing.pieces}
    named.update(sha256 for sha256, _, _ in blobs_of(place, manifest.blobs))
    named.update(sha256 for _, sha256, _ in files_of(place, manifest.files))
    return named
