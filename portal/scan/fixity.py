"""One look at one file: is it there, and are its bytes what was published.

A file that cannot be read is `unreachable`: only bytes that were read and differ, or a size that differs, make it
`changed`. What differs elsewhere is read once more before the store is accused: a bit may flip on its way.
Where a text elsewhere is read whole, its lines are indexed on the way, so that rows of it can be read from then on.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

from blake3 import blake3

from portal.catalog.checks import CheckedFile, DueFile
from portal.errors import FileMissing, IntegrityError, PortalError
from portal.scan.amounts import Sample
from portal.settings import Settings
from portal.storage import Meter, StoredFile, open_remote, open_store
from portal.storage.blocks import KnownBlocks
from portal.storage.hashing import BLOCK_SIZE, FileDigest
from portal.storage.pace import Pace
from portal.storage.published import look_twice, states_other
from portal.storage.ranged import RangedStore
from portal.tokens.readers import ReadableFile, is_indexed
from portal.tokens.readers.lines import OffsetBuilder, index_path, save_index

GROUP = 4
"""Blocks read side by side."""
_dice = random.SystemRandom()


def look(file: DueFile, settings: Settings) -> tuple[CheckedFile | None, StoredFile | None]:
    """Whether a local file is there with its size: the bad news, or what was found."""
    try:
        found = open_store(file.uri, settings).stat(file.uri)
    except FileMissing:
        return missing(file), None
    except PortalError as error:
        return unreachable(file, error), None
    if file.size is not None and found.size != file.size:
        return _resized(file, found.size), None
    return None, found


def compare_digest(file: DueFile, digest: FileDigest | PortalError) -> CheckedFile | None:
    """What the hash of a local file says; None where it was written to meanwhile, so that nothing can be said."""
    if isinstance(digest, FileMissing):
        return missing(file)
    if isinstance(digest, IntegrityError):
        return None
    if isinstance(digest, PortalError):
        return unreachable(file, digest)
    if file.size is not None and digest.size != file.size:
        return _resized(file, digest.size)
    if file.sha256 is None:
        return CheckedFile(file, "unverified")
    if digest.sha256 == file.sha256:
        return CheckedFile(file, "verified", digest.size, digest.modified_ns)
    message = f"{file.path} no longer has the sha256 it was published with."
    return CheckedFile(file, "changed", digest.size, None, message, {"found_sha256": digest.sha256})


class RemoteLook:
    """Looks at files elsewhere: some blocks of each, or all of it."""

    def __init__(self, settings: Settings, sample: Sample | None, pace: Pace, meter: Meter) -> None:
        """Without ``sample`` every byte is read."""
        self._settings = settings
        self._sample = sample
        self._pace = pace
        self._meter = meter
        self._indexes = settings.data / "store" / "indexes"

    def check(self, file: DueFile, known: KnownBlocks | None) -> tuple[CheckedFile, FileDigest | None]:
        """What became of a file, and the digests of its blocks where these were not known and it was read whole."""
        try:
            store = open_remote(file.uri, self._settings)
            found = look_twice(store, file.uri, file.size, file.sha256, lambda: store.stat(file.uri, self._meter))
            if file.size is not None and found.size != file.size:
                return _resized(file, found.size), None
            if states_other(found, file.sha256):
                message = f"{file.path}: where it lies, another sha256 is stated than it was published with."
                return CheckedFile(file, "changed", 0, None, message, {"found_sha256": found.etag}), None
            indexing = self._sample is None and self._lacks_lines(file, store)
            if known is not None and known.size == found.size and not indexing:
                return self._compare_blocks(store, file, known), None
            if file.sha256 and (self._sample is None or file.doubted):
                return self._compare_whole(store, file, found.size, indexing)
        except FileMissing:
            return missing(file), None
        except PortalError as error:
            return unreachable(file, error), None
        # Nothing was ever hashed here: that it is there, and as long as it should be, is all that can be said.
        return CheckedFile(file, "unverified"), None

    def _compare_blocks(self, store: RangedStore, file: DueFile, known: KnownBlocks) -> CheckedFile:
        known.check()
        total = len(known.digests) // 32
        whole = self._sample is None or file.doubted
        wanted = (
            range(total) if whole or not self._sample else sorted(_dice.sample(range(total), self._sample.count(total)))
        )
        compared, wrong = 0, []
        for index, data in self._read(store, file.uri, known, wanted):
            if not known.is_sound(index, data):
                store.forget(file.uri)
                ((_, data),) = self._read(store, file.uri, known, [index])
            if known.is_sound(index, data):
                compared += len(data)
            else:
                wrong.append(index)
        if wrong:
            offset, length = known.bounds(wrong[0])
            message = f"{file.path}: bytes {offset:,} to {offset + length:,} are not what was published" + (
                f", and {len(wrong) - 1:,} more blocks." if len(wrong) > 1 else "."
            )
            told = {"blocks": wrong[:20], "block_size": known.block_size, "wrong_blocks": len(wrong)}
            return CheckedFile(file, "changed", compared, None, message, told)
        if compared == known.size:
            return CheckedFile(file, "verified", compared)
        return CheckedFile(file, "verified" if file.state == "verified" else "sampled", compared)

    def _compare_whole(
        self, store: RangedStore, file: DueFile, size: int, indexing: bool
    ) -> tuple[CheckedFile, FileDigest | None]:
        digest, lines = self._hash(store, file, size, indexing)
        if digest.sha256 != file.sha256:
            store.forget(file.uri)
            digest, lines = self._hash(store, file, size, indexing)
        if digest.sha256 == file.sha256:
            if lines is not None and not lines.too_dense:
                save_index(index_path(self._indexes, file.sha256), lines.finish())
            return CheckedFile(file, "verified", size), digest
        message = f"{file.path} does not have the sha256 it was published with."
        return CheckedFile(file, "changed", size, None, message, {"found_sha256": digest.sha256}), None

    def _hash(
        self, store: RangedStore, file: DueFile, size: int, indexing: bool
    ) -> tuple[FileDigest, OffsetBuilder | None]:
        sha256, blocks = hashlib.sha256(), bytearray()
        lines = OffsetBuilder(file.path) if indexing else None
        plan = KnownBlocks("", size, BLOCK_SIZE, b"")
        for _, data in self._read(store, file.uri, plan, range(-(-size // BLOCK_SIZE))):
            sha256.update(data)
            blocks += blake3(data).digest()
            if lines is not None and not lines.too_dense:
                lines.feed(data)
        return FileDigest(sha256.hexdigest(), size, BLOCK_SIZE, bytes(blocks)), lines

    def _lacks_lines(self, file: DueFile, store: RangedStore) -> bool:
        """Whether it is a plain text of rows that nobody indexed yet."""
        if file.chunk is None or not file.path.endswith(".jsonl"):
            return False
        return not is_indexed(ReadableFile(file.path, file.uri, file.size, file.sha256, store), self._indexes)

    def _read(
        self, store: RangedStore, uri: str, known: KnownBlocks, wanted: Sequence[int]
    ) -> Iterator[tuple[int, bytes]]:
        for start in range(0, len(wanted), GROUP):
            group = wanted[start : start + GROUP]
            self._pace.check()
            for index, data in zip(
                group, store.read_ranges(uri, [known.bounds(i) for i in group], self._meter), strict=True
            ):
                self._pace.spend(len(data))
                yield index, data


def missing(file: DueFile) -> CheckedFile:
    """It is not there any more."""
    return CheckedFile(file, "missing", message=f"{file.path} is no longer where it was published from.")


def unreachable(file: DueFile, error: PortalError) -> CheckedFile:
    """It could not be read, and why."""
    message = f"{file.path} could not be read, so nothing is known of its bytes: {error.message}"
    return CheckedFile(file, "unreachable", message=message)


def _resized(file: DueFile, size: int) -> CheckedFile:
    message = f"{file.path} has {size:,} bytes; {file.size or 0:,} were published."
    return CheckedFile(file, "changed", message=message, evidence={"size_found": size})
