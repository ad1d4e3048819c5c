"""Reads of files elsewhere that are compared with the digests of their blocks before anyone sees a byte.

A digest vouches for a whole block of 8 MiB, so the first read of a block fetches all of it; it is then kept, and reads
of its neighbours cost nothing. Where nothing was ever hashed there is nothing to compare with: exact ranges are read,
and counted as unverified.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from portal.errors import DataFault, IntegrityError
from portal.storage.blocks import BlockCache, KnownBlocks
from portal.storage.ranged import RangedStore
from portal.storage.store import Meter, StoredFile

_fetching = tuple(threading.Lock() for _ in range(64))
"""One for each block being fetched, by its name: two readers of one cold block fetch it once."""


class CheckedStore:
    """A `Store` of one file whose blocks are known; other URIs are not its business."""

    def __init__(self, store: RangedStore, known: KnownBlocks, cache: BlockCache) -> None:
        known.check()
        self._store = store
        self._known = known
        self._cache = cache

    def stat(self, uri: str) -> StoredFile:
        """As it was hashed, without asking: what is there now is compared block by block."""
        return StoredFile(uri, uri.rpartition("/")[2], self._known.size, None, self._known.sha256)

    def seen(self, uri: str, meter: Meter | None = None) -> StoredFile:  # noqa: ARG002 - nothing is sent
        """What `stat` says."""
        return self.stat(uri)

    def forget(self, uri: str) -> None:
        """In the store below."""
        self._store.forget(uri)

    def list_files(self, uri: str) -> Iterator[StoredFile]:
        """What the store below lists."""
        return self._store.list_files(uri)

    def read_range(self, uri: str, offset: int, length: int, meter: Meter | None = None) -> bytes:
        """Verified bytes; IntegrityError when a block is not what was hashed, else errors of the store below."""
        return self.read_ranges(uri, [(offset, length)], meter)[0]

    def read_ranges(self, uri: str, ranges: Sequence[tuple[int, int]], meter: Meter | None = None) -> list[bytes]:
        """Several verified ranges; every block they touch is fetched once, side by side."""
        counted = meter or Meter()
        for offset, length in ranges:
            if offset < 0 or length < 0 or offset + length > self._known.size:
                raise self._beyond(uri, offset, length)
        wanted = sorted({index for span in ranges for index in self._known.covering(*span)})
        blocks = self._blocks(uri, wanted, counted)
        return [self._cut(blocks, offset, length) for offset, length in ranges]

    def local_path(self, uri: str) -> Path | None:  # noqa: ARG002 - as the protocol wants it
        """None: what is kept here are blocks, not the file."""
        return None

    def public_url(self, uri: str, name: str = "") -> str | None:
        """That of the store below."""
        return self._store.public_url(uri, name)

    def _blocks(self, uri: str, wanted: Sequence[int], meter: Meter) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        missing = []
        for index in wanted:
            kept = self._cache.get(self._known, index)
            if kept is None:
                missing.append(index)
            else:
                found[index] = kept
        if len(missing) == 1:
            # The usual case; the lock spares the second of two readers the transfer.
            with _fetching[hash((self._known.sha256, missing[0])) % len(_fetching)]:
                kept = self._cache.get(self._known, missing[0])
                return found | ({missing[0]: kept} if kept is not None else self._fetch(uri, missing, meter))
        return found | (self._fetch(uri, missing, meter) if missing else {})

    def _fetch(self, uri: str, missing: Sequence[int], meter: Meter) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        doubted: list[int] = []
        for index, data in zip(missing, self._raw(uri, missing, meter), strict=True):
            if self._known.is_sound(index, data):
                found[index] = data
            else:
                doubted.append(index)
        # A bit may flip on its way, and a branch may have gone on: what differs is fetched once more before the store is
        # accused, from where the address leads now.
        if doubted:
            self._store.forget(uri)
        for index, data in zip(doubted, self._raw(uri, doubted, meter), strict=True):
            if not self._known.is_sound(index, data):
                offset, length = self._known.bounds(index)
                raise IntegrityError(
                    f"{self._store.name(uri)}: bytes {offset:,} to {offset + length:,} are not what was published "
                    "(their BLAKE3 digest differs).",
                    "Restore the published file, or publish the run again if the new bytes are meant.",
                )
            found[index] = data
        for index, data in found.items():
            self._cache.put(self._known, index, data)
        return found

    def _raw(self, uri: str, indexes: Sequence[int], meter: Meter) -> list[bytes]:
        spared = Meter()
        raw = self._store.read_ranges(uri, [self._known.bounds(index) for index in indexes], spared) if indexes else []
        meter.count(spared.requests, spared.bytes)
        return raw

    def _cut(self, blocks: dict[int, bytes], offset: int, length: int) -> bytes:
        parts = []
        for index in self._known.covering(offset, length):
            begin, _ = self._known.bounds(index)
            parts.append(blocks[index][max(offset - begin, 0) : offset + length - begin])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _beyond(self, uri: str, offset: int, length: int) -> DataFault:
        return DataFault(
            f"{self._store.name(uri)} is {self._known.size:,} bytes long and does not reach from byte {offset:,} to "
            f"{offset + length:,}.",
            "Its description is wrong: compare it with the release.",
        )
