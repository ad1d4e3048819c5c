"""Which files of a release this portal can read, here or elsewhere, and what of them it can vouch for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlmodel import Session

from portal.catalog.facts import ReleaseFacts
from portal.catalog.files import FileRow, place_in_reach
from portal.catalog.opened import Opened
from portal.errors import IntegrityError, PortalError, Unavailable
from portal.models import BlockDigests
from portal.settings import Settings
from portal.storage import LocalStore, Meter, Store, open_remote, refuse_store
from portal.storage.hashing import BLOCK_ALGORITHM
from portal.storage.published import by_path, look_twice, states_other
from portal.tokens.readers import ReadableFile, is_indexed

KEPT_DIGESTS = 256
_HOW_TO_INDEX = (
    "`portal index-lines RUN --chunks NAME` on the portal's machine reads it once and keeps nothing but where lines begin "
    "(`portal verify RUN --deep` does so too); `portal mirror RUN --chunks NAME` copies it here, as compressed texts need."
)

_digests = Opened(KEPT_DIGESTS)


def indexes_of(settings: Settings) -> Path:
    """The folder of line indexes and seek points."""
    return settings.data / "store" / "indexes"


def refuse_out_of_reach(chunk: str, format: str | None, files: Sequence[FileRow], settings: Settings) -> None:
    """Unavailable where the rows of a chunk cannot be read from anywhere; nothing is asked for on the network."""
    error = _out_of_reach(chunk, format, files, settings)
    if error is not None:
        raise error


def why_unreadable(facts: ReleaseFacts, settings: Settings | None, chunk: str) -> str:
    """Why the rows of a chunk cannot be read, in a sentence; empty where they can, from here or from elsewhere.

    Without ``settings`` no index of lines is known, and every store counts as open.
    """
    if chunk in facts.at_hand:
        return ""
    error = _out_of_reach(chunk, facts.chunks[chunk].row.format, facts.elsewhere.get(chunk, ()), settings)
    return error.message if error else ""


def _out_of_reach(
    chunk: str, format: str | None, files: Sequence[FileRow], settings: Settings | None
) -> PortalError | None:
    lost = next((file for file in files if place_in_reach(file) is None and file.places), None)
    state = lost.places[0].state if lost else ""
    if lost and state in ("changed", "missing"):
        told = "is not what was published any more" if state == "changed" else "is not there any more"
        return Unavailable(
            f"{lost.path} {told}, so the rows of chunk {chunk} cannot be read.",
            "Its publisher can restore it; the next look (`portal verify`) takes the finding back.",
            chunk=chunk,
        )
    if not files or any(place_in_reach(file) is None for file in files):
        return Unavailable(
            f"The bytes of chunk {chunk} are not on this machine; the portal knows where they are but holds no copy.",
            "Download the chunk from its own address (see its page), or publish a local copy.",
            chunk=chunk,
        )
    far = [file for file in files if file.local is None]
    if format == "jsonl" and not all(settings and is_indexed(readable_here(f), indexes_of(settings)) for f in far):
        return Unavailable(
            f"The bytes of chunk {chunk} are not on this machine, and where its lines begin is not known: they were "
            f"never counted, and {_amount(far)} would be read for that from where the chunk lies.",
            _HOW_TO_INDEX,
            chunk=chunk,
        )
    for place in filter(None, map(place_in_reach, far if settings else [])):
        try:
            refuse_store(place.uri, settings)  # type: ignore[arg-type]
        except PortalError as error:
            error.extra["chunk"] = chunk
            return error
    return None


def _amount(files: Sequence[FileRow]) -> str:
    """What reading files whole takes, in words."""
    if any(file.size is None for file in files):
        return "all of it"
    count, units = float(sum(file.size or 0 for file in files)), ["bytes", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:.3g} {units[0]}"


def is_far(files: Sequence[ReadableFile]) -> bool:
    """Whether reading any of these files asks another server."""
    return any(not file.uri.startswith("file://") for file in files)


def readable_here(row: FileRow) -> ReadableFile:
    """A file by its name and hash alone; nothing is read through it."""
    return ReadableFile(row.path, "", row.size, row.sha256, LocalStore())


def readable_file(session: Session, settings: Settings, row: FileRow) -> ReadableFile:
    """A file with the store that holds it; one elsewhere is compared with its block digests where these are known."""
    place = place_in_reach(row) or row.places[0]
    if place.uri.startswith("file://"):
        return ReadableFile(row.path, place.uri, row.size, row.sha256, LocalStore())
    return ReadableFile(row.path, place.uri, row.size, row.sha256, _store(session, settings, row, place.uri))


def look(file: ReadableFile, meter: Meter) -> tuple[str, int, int | str]:
    """What tells one state of a file from another: a file that changed is opened anew, one that is no longer of its
    catalogued size refused."""
    if file.uri.startswith("file://"):
        try:
            now = os.stat(unquote(urlsplit(file.uri).path))
        except OSError:
            # Its reader names the file and what to do.
            return file.uri, -1, 0
        _check_size(file, now.st_size)
        return file.uri, now.st_size, now.st_mtime_ns
    try:
        seen = look_twice(file.store, file.uri, file.size, file.sha256, lambda: file.store.seen(file.uri, meter))
    except PortalError as error:
        raise by_path(error, file.uri, file.path) from None
    _check_size(file, seen.size)
    if states_other(seen, file.sha256):
        raise IntegrityError(
            f"{file.path} has sha256 {seen.etag} where it lies; it was published with {file.sha256}.",
            "Restore the published file, or publish the run again.",
            file=file.path,
        )
    return file.uri, seen.size, seen.etag


def _check_size(file: ReadableFile, size: int) -> None:
    if file.size is not None and size != file.size:
        raise IntegrityError(
            f"{file.path} has {size} bytes; it was published with {file.size}.",
            "Restore the published file, or publish the run again.",
            file=file.path,
        )


def _store(session: Session, settings: Settings, row: FileRow, uri: str) -> Store:
    # Loaded only where something lies elsewhere.
    from portal.storage.blocks import BlockCache, KnownBlocks  # noqa: PLC0415
    from portal.storage.checked import CheckedStore  # noqa: PLC0415

    store = open_remote(uri, settings)
    if settings.verify_reads != "blocks" or not row.sha256:
        return store
    sha256 = row.sha256

    def load() -> KnownBlocks | None:
        held = session.get(BlockDigests, sha256)
        if held is None or held.algorithm != BLOCK_ALGORITHM:
            return None
        return KnownBlocks(sha256, held.size, held.block_size, held.digests)

    known: KnownBlocks | None = _digests.get((str(settings.resolved_database_url), sha256), load)
    if known is None:
        return store
    folder, reserve = settings.data / "store" / "blocks", settings.disk_reserve_bytes
    return CheckedStore(store, known, BlockCache(folder, settings.block_cache_bytes, reserve))
