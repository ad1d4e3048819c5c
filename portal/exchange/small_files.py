"""Small files of a release that lie elsewhere (numbers, configs, tokenizer): read whole and hashed before it is recorded.

What was read is kept under PORTAL_DATA with the ETag it had. Publishing again asks whether it is still the same, and goes
on with what is kept where nobody answers: a server's bad hour makes no new version without numbers.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

import orjson

from portal.catalog.answers import FoundFinding
from portal.errors import DataFault, PortalError, Unavailable
from portal.exchange.digests import Digested, PublishProgress
from portal.exchange.discover import Discovery
from portal.exchange.places import FoundFile, public_place
from portal.settings import Settings
from portal.storage import open_remote
from portal.storage.hashing import FileDigest, hash_file

LARGEST = 256 << 20
"""Bytes of one file; a larger one stays where it is, unread."""
PARALLEL = 8
STRETCH = 32 << 20
"""Bytes held in memory at once of each file."""
GIVE_UP = 3
"""Failures of one server after which its other files are not tried."""
READ_ROLES = ("tokenizer", "config")
"""Of the files that are neither numbers nor configs: order files are read by range, where they lie."""


@dataclass
class SmallFiles:
    """The release with what was read of it."""

    found: Discovery
    digests: dict[str, FileDigest] = field(default_factory=dict)
    """By URI."""
    unread: dict[str, PortalError] = field(default_factory=dict)
    """Why a file was not read, by URI."""
    kept: dict[str, str] = field(default_factory=dict)
    """Files that could not be asked for now, by URI: when what is used of them was read."""
    waiting: int = 0
    """Files that would be asked for."""

    def note(self, digested: Digested) -> None:
        """Count what was read among the files hashed by this publication."""
        for uri, digest in self.digests.items():
            digested.sha256[uri] = digest.sha256
            digested.modified_ns[uri] = None
            digested.new.append(digest)
            digested.bytes_hashed += digest.size

    @property
    def findings(self) -> list[FoundFinding]:
        """One for each file that could not be read, or not now."""
        places = {f.uri: f for f in _wanted(self.found)}
        return [
            *(_unread(places[uri], error) for uri, error in self.unread.items()),
            *(_kept(places[uri], since) for uri, since in self.kept.items()),
        ]


def read_small_files(
    found: Discovery, settings: Settings, progress: PublishProgress | None = None, ask: bool = True
) -> SmallFiles:
    """``found`` with copies of its small files elsewhere; a file that cannot be had is no fault of the release.

    Without ``ask`` only what was read before is used, and nothing is asked for.
    """
    wanted = {f.uri: f for f in _wanted(found)}
    if not wanted:
        return SmallFiles(found)
    if ask and progress:
        progress.begin(f"Reading {len(wanted):,} small files elsewhere", 0)
    reading, read = _Reading(settings, ask), SmallFiles(found, waiting=len(wanted))
    copies: dict[str, tuple[Path, int]] = {}
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="small-files") as pool:
        for file, got in zip(wanted.values(), pool.map(reading.get, wanted.values()), strict=True):
            if isinstance(got, PortalError):
                read.unread[file.uri] = got
            elif got is not None:
                copies[file.uri] = got.path, got.digest.size
                read.digests[file.uri] = got.digest
                if got.since:
                    read.kept[file.uri] = got.since

    def copied(file: FoundFile) -> FoundFile:
        if file.uri in copies:
            path, size = copies[file.uri]
            return replace(file, copy=path, size=size)
        return replace(file, told=True) if file.uri in read.unread else file

    read.found = replace(
        found,
        metrics=[(m, [copied(f) for f in files]) for m, files in found.metrics],
        evaluations=[(e, [copied(f) for f in files]) for e, files in found.evaluations],
        configs=[(c, copied(f) if f else None) for c, f in found.configs],
        others=[copied(f) for f in found.others],
    )
    return read


def _wanted(found: Discovery) -> Iterable[FoundFile]:
    held = [f for _, files in (*found.metrics, *found.evaluations) for f in files]
    held += [f for _, f in found.configs if f] + [f for f in found.others if f.role in READ_ROLES]
    return (f for f in held if not f.uri.startswith("file://") and not f.sent)


@dataclass(frozen=True)
class _Got:
    path: Path
    digest: FileDigest
    since: str = ""
    """When it was read, where it could not be asked for again."""


class _Reading:
    """Reads files into a folder of this portal's own; safe to use from several threads."""

    def __init__(self, settings: Settings, ask: bool) -> None:
        self._settings = settings
        self._ask = ask
        self._folder = settings.data / "store" / "small-files"
        self._failures: Counter[str] = Counter()
        self._lock = threading.Lock()

    def get(self, file: FoundFile) -> _Got | PortalError | None:
        """The file here; why it is not; None where nobody was asked."""
        place = _Place.of(self._folder, file.uri)
        try:
            held = place.held()
            if held and held.digest.sha256 == file.sha256:
                # Its hash says that these are the bytes that are meant, whatever lies there now.
                return replace(held, since="")
            if not self._ask:
                return held and replace(held, since="")
            return self._compared(file, self._asked(file, place, held))
        except PortalError as error:
            return error

    def _asked(self, file: FoundFile, place: _Place, held: _Got | None) -> _Got:
        scheme, _, rest = file.uri.partition("://")
        server = scheme if scheme == "hf" else f"{scheme}://{rest.partition('/')[0]}"
        with self._lock:
            lost = self._failures[server] >= GIVE_UP
        try:
            if lost:
                raise Unavailable("Not tried: its server had not answered for other files.", "Publish again later.")
            return self._read(file, place, held)
        except Unavailable as error:
            with self._lock:
                self._failures[server] += bool(error.extra.get("unanswered"))
            if held is None:
                raise
            return held

    def _read(self, file: FoundFile, place: _Place, held: _Got | None) -> _Got:
        store = open_remote(file.uri, self._settings)
        now = store.stat(file.uri)
        if now.size > LARGEST:
            raise DataFault(
                f"It has {now.size:,} bytes; files of more than {LARGEST:,} are not read from elsewhere.",
                "Publish a local copy, or divide the file.",
            )
        if held and now.etag and place.etag() == now.etag and held.digest.size == now.size:
            return replace(held, since="")
        with place.writing() as partial:
            with partial.open("wb") as stream:
                for at in range(0, now.size, STRETCH):
                    stream.write(store.read_range(file.uri, at, min(STRETCH, now.size - at)))
            return place.keep(partial, hash_file(partial), now.etag)

    def _compared(self, file: FoundFile, got: _Got) -> _Got:
        if file.sha256 not in (None, got.digest.sha256):
            raise DataFault(
                f"It has sha256 {got.digest.sha256}; the manifest says {file.sha256}.",
                "Restore the file that was meant, or correct its sha256.",
            )
        return got


@dataclass(frozen=True)
class _Place:
    """Where one address is kept: a folder with the file under its own name, which tells its format, and what is known."""

    folder: Path
    name: str
    uri: str

    @classmethod
    def of(cls, folder: Path, uri: str) -> _Place:
        name = quote(urlsplit(uri).path.rpartition("/")[2], safe="")[-150:]
        key = hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()
        return cls(folder / key, name.lstrip(".") or "file", uri)

    def held(self) -> _Got | None:
        """What is kept, hashed again; None where there is nothing, or something else than was read."""
        about = self._about()
        path = self.folder / self.name
        if about is None or not path.is_file():
            return None
        digest = hash_file(path)
        return _Got(path, digest, str(about["read_at"])) if digest.sha256 == about["sha256"] else None

    def etag(self) -> str:
        """The ETag it had; empty where that said nothing of the bytes."""
        etag = str((self._about() or {}).get("etag", ""))
        return "" if etag.startswith("W/") else etag

    def writing(self) -> _Partial:
        self.folder.mkdir(parents=True, exist_ok=True)
        return _Partial(self.folder / f".{os.getpid()}.{threading.get_ident()}.part")

    def keep(self, partial: Path, digest: FileDigest, etag: str) -> _Got:
        """Give what was read its name; a kill between the two leaves a file that is read again."""
        partial.replace(self.folder / self.name)
        told = {"uri": self.uri, "etag": etag, "sha256": digest.sha256, "read_at": datetime.now(UTC)}
        with self.writing() as about:
            about.write_bytes(orjson.dumps(told))
            about.replace(self.folder / ".about.json")
        return _Got(self.folder / self.name, digest)

    def _about(self) -> dict[str, object] | None:
        try:
            about = orjson.loads((self.folder / ".about.json").read_bytes())
        except (OSError, ValueError):
            return None
        return about if isinstance(about, dict) and {"etag", "sha256", "read_at"} <= about.keys() else None


class _Partial:
    """A file on its way, removed unless it was given another name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Path:
        return self._path

    def __exit__(self, *_failure: object) -> None:
        self._path.unlink(missing_ok=True)


def _unread(file: FoundFile, error: PortalError) -> FoundFinding:
    place = public_place(file.uri)
    return FoundFinding(
        "numbers-elsewhere",
        "warning",
        f"{_WHAT.get(file.role, 'The file')} at {place} lies outside this portal and could not be read: "
        f"{error.message} {error.remedy}".strip(),
        None,
        {"uri": place, "where": file.where},
        file.uri,
    )


def _kept(file: FoundFile, since: str) -> FoundFinding:
    place = public_place(file.uri)
    return FoundFinding(
        "numbers-kept",
        "info",
        f"{place} could not be asked for again; what this version says of it was read on {since[:10]}.",
        None,
        {"uri": place, "where": file.where, "read_at": since},
        file.uri,
    )


_WHAT = {
    "metrics": "The file of numbers",
    "evaluation": "The evaluation file",
    "config": "The config",
    "tokenizer": "The tokenizer",
}
