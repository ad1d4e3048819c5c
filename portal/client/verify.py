"""Check a downloaded pair or release against what was published, without a network unless a portal is given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from portal.client.api import Portal
from portal.client.attested import (
    COVERS,
    MODEL,
    CheckedSignature,
    as_pair,
    open_head,
    open_signatures,
    read_signed,
    vouched_for,
)
from portal.client.claim import CLAIM
from portal.client.download import DownloadProgress, NoProgress
from portal.client.pair import BATCH
from portal.client.partial import digest_of
from portal.client.paths import inside
from portal.client.released import MANIFESTS, SUMS, Expected, Listing, all_files, published_by, read_pair, read_release
from portal.errors import FileMissing

if TYPE_CHECKING:
    from portal.signing.keys import PublicKey

BAD = ("changed", "missing", "unreadable")
OWN = {"pair.json", CLAIM, SUMS, *COVERS}
"""Files that lie beside what was published."""


@dataclass(frozen=True)
class FileVerdict:
    """What became of one file."""

    path: str
    state: str
    """``verified``: has the sha256 that was published; ``unchanged``: is as it was fetched, but no sha256 of it was
    published; ``unverified``: is there, and nothing at hand says what it should be; ``unexpected``: is there
    and was not published; ``changed``; ``missing``; ``unreadable``."""
    size: int | None
    expected: str | None
    found: str | None


@dataclass(frozen=True)
class VerifyReport:
    """All files of a folder."""

    folder: Path
    kind: str
    """``pair``, ``release``, or ``checkpoint``: a folder of nothing but files and the signature over them."""
    run: str
    files: list[FileVerdict]
    elsewhere: int = 0
    """Files that by the manifest lie elsewhere, and were not looked at."""
    notes: list[str] = field(default_factory=list)
    """What of a pair was never fetched."""
    signatures: list[CheckedSignature] = field(default_factory=list)
    unsigned: list[str] = field(default_factory=list)
    """Files here that no signature which was checked speaks for; `portal pair` makes ``batch.npy`` itself, unsigned."""
    history: CheckedSignature | None = None
    """The head of the portal's history that a pair was fetched with; it speaks for no file."""

    @property
    def counts(self) -> dict[str, int]:
        """Files by state."""
        states = [f.state for f in self.files]
        return {state: states.count(state) for state in dict.fromkeys(states)}

    @property
    def ok(self) -> bool:
        """True when nothing is changed, missing or unreadable, and something was verified or is as it was fetched."""
        counts = self.counts
        return not any(counts.get(s) for s in BAD) and bool(counts.get("verified") or counts.get("unchanged"))

    @property
    def vouched(self) -> bool:
        """True when signatures checked with the keys given speak for every file, and there is no other file."""
        states = {s.state for s in self.signatures}
        if self.history is not None and self.history.state == "bad":
            return False
        others = [path for path in self.unsigned if path != BATCH]
        return self.ok and "good" in states and "bad" not in states and not others and "unexpected" not in self.counts

    @property
    def all_verified(self) -> bool:
        """True when every file here is what was published, and nothing else is here."""
        return bool(self.files) and set(self.counts) == {"verified"}


def verify_folder(
    folder: Path,
    workers: int = 0,
    progress: DownloadProgress | None = None,
    portal: Portal | None = None,
    keys: Sequence[PublicKey] = (),
) -> VerifyReport:
    """Hash every file that ``pair.json``, the release manifest, or else ``model.sig`` of ``folder`` names, in parallel.

    What a file should be is told by each of these; of a release by its manifest and ``SHA256SUMS``, and by
    ``portal`` where one is given, which then has the last word; and with ``keys`` by the signatures that were made
    with them, which have the very last. ``workers`` 0 means one for each core.
    Raises FileMissing when the folder holds neither, DataFault when a list cannot be read.
    """
    told = progress or NoProgress()
    listing = _listed(folder)
    if portal is not None:
        for file in published_by(portal.files(listing.run)):
            if listing.kind == "release" and file.path in listing.files:
                listing.add(file)
    signatures = open_signatures(folder, keys, {MODEL: ""} if listing.kind == "checkpoint" else COVERS)
    if listing.kind == "pair":
        signatures = as_pair(signatures, listing.document)
    signed = vouched_for(signatures)
    for path, sha256 in signed.items():
        listing.add(Expected(path, None, sha256))
    places = [(file, inside(folder, file.path.rstrip("/"))) for file in listing.files.values()]
    told.begin("verify", sum(place.stat().st_size for _, place in places if place.is_file()))
    with ThreadPoolExecutor(workers or _cores()) as pool:
        files = list(pool.map(lambda at: _check(at[0], at[1], told), places))
    files += _unexpected(folder, listing)
    unsigned = [p for p in listing.files if p not in signed and p not in COVERS and not _is_git(p)] if keys else []
    head = open_head(listing.document, keys)
    return VerifyReport(
        folder, listing.kind, listing.run, files, listing.elsewhere, listing.notes, signatures, unsigned, head
    )


def holds_release(folder: Path) -> bool:
    """Whether a manifest lies at the root of ``folder``."""
    return any((folder / name).is_file() for name in MANIFESTS)


def _listed(folder: Path) -> Listing:
    if (folder / "pair.json").is_file():
        return read_pair(folder)
    if holds_release(folder):
        return read_release(folder)
    if (folder / MODEL).is_file():
        return read_signed(folder)
    raise FileMissing(
        f"{folder} holds no pair.json, no release.yaml and no {MODEL}.",
        "Give a downloaded release, or a folder that `portal pair` filled; an interrupted one is finished by running it again.",
    )


def _check(file: Expected, place: Path, progress: DownloadProgress) -> FileVerdict:
    if not place.is_file():
        return FileVerdict(file.path, "missing", file.size, file.sha256, None)
    try:
        size = place.stat().st_size
        if file.size is not None and size != file.size:
            progress.advance(size)
            return FileVerdict(file.path, "changed", size, file.sha256, None)
        if file.sha256 is None:
            progress.advance(size)
            return FileVerdict(file.path, "unverified", size, None, None)
        found, size = digest_of(place, progress.advance)
    except OSError:
        return FileVerdict(file.path, "unreadable", file.size, file.sha256, None)
    same = "verified" if file.published else "unchanged"
    return FileVerdict(file.path, same if found == file.sha256 else "changed", size, file.sha256, found)


def _unexpected(folder: Path, listing: Listing) -> Iterable[FileVerdict]:
    for path in sorted(all_files(folder)):
        beside = listing.kind == "checkpoint" and _is_git(path)
        if path not in listing.files and path not in OWN and not beside:
            yield FileVerdict(path, "unexpected", (folder / path).lstat().st_size, None, None)


def _is_git(path: str) -> bool:
    # Imported here because a folder without signatures needs no cryptography.
    from portal.signing.models import is_git  # noqa: PLC0415

    return is_git(path)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
