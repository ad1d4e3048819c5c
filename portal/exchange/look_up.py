"""What a Hub states of files that a manifest only points to: paths, sizes and sha256, pinned to the commit they were
read at. Nothing is verified by it: the portal believes nobody's digest but shows whose word it is.

Trees are remembered under PORTAL_DATA, so publishing again needs no network and gives the same release. Small files that
are no LFS files carry no sha256 on a Hub: each distinct one is fetched once and compared with the git id the Hub states.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import orjson

from portal.catalog.answers import FoundFinding
from portal.errors import PortalError
from portal.exchange.digests import PublishProgress
from portal.exchange.discover import Discovery
from portal.exchange.places import FoundFile, path_in_uri
from portal.exchange.roles import role_of
from portal.settings import Settings
from portal.storage import open_remote
from portal.storage.hub import HubPlace, HubStore

PARALLEL = 8
SMALL = 16 << 20
"""Bytes of a file without a stated sha256 that is fetched for it."""


@dataclass(frozen=True)
class StatedFile:
    """A file of a commit as the Hub states it."""

    uri: str
    """With the commit in place of the branch."""
    path: str
    size: int
    sha256: str | None


@dataclass
class LookedUp:
    """What became of a look-up."""

    found: Discovery
    files: int = 0
    """Files whose size or sha256 comes from the Hub."""
    revisions: int = 0
    unknown: dict[str, str] = field(default_factory=dict)
    """Why a revision could not be looked up, by its address."""

    asked: bool = False

    @property
    def told(self) -> list[str]:
        """What to tell the publisher, one sentence each."""
        if self.asked and self.unknown:
            return [f"{len(self.unknown):,} revisions could not be looked up: {next(iter(self.unknown.values()))}"]
        left = 0 if self.asked else count_unknown(self.found)
        return (
            [f"Of {left:,} revisions on the Hub sizes and sha256 are not known; --look-up asks for them."]
            if left
            else []
        )

    @property
    def findings(self) -> list[FoundFinding]:
        """What to say of it beside the release."""
        return [*self._stated(), *self._lost()]

    def _stated(self) -> Iterable[FoundFinding]:
        if self.files:
            yield FoundFinding(
                "digests-stated-by-hub",
                "info",
                f"Sizes and sha256 of {self.files:,} files are those their Hub states for {self.revisions:,} commits; "
                "this portal has not read the files.",
                None,
                {"files": self.files, "commits": self.revisions},
            )

    def _lost(self) -> Iterable[FoundFinding]:
        if self.unknown:
            yield FoundFinding(
                "hub-not-looked-up",
                "warning",
                f"{len(self.unknown):,} revisions on the Hub could not be looked up, so their files are not known: "
                f"{next(iter(self.unknown.values()))}",
                None,
                {"revisions": dict(list(self.unknown.items())[:50]), "count": len(self.unknown)},
            )


def look_up(
    found: Discovery, settings: Settings, ask: bool = False, progress: PublishProgress | None = None
) -> LookedUp:
    """``found`` with what the Hub states; only what is remembered unless ``ask``. The Hub's silence is no fault."""
    trees = _Trees(settings, ask)
    wanted = dict.fromkeys(filter(None, map(_revision_of, _addresses(found))))
    if ask and wanted and progress:
        progress.begin(f"Asking the Hub about {len(wanted):,} revisions", 0)
    trees.read(wanted)
    looked = LookedUp(found, unknown=trees.unknown, asked=ask)
    used: set[str] = set()

    def stated(file: FoundFile) -> FoundFile:
        known = trees.file(file.uri)
        if known is None or (file.size is not None and file.sha256):
            return file
        if (file.size not in (None, known.size)) or (file.sha256 and file.sha256 != known.sha256):
            # The manifest's own word stands; what differs is for a scan of the bytes to say.
            return file
        used.add(_revision_of(known.uri) or "")
        looked.files += 1
        return replace(file, uri=known.uri, size=known.size, sha256=file.sha256 or known.sha256)

    checkpoints = []
    for entry, files in found.checkpoints:
        listed = list(files)
        if not files and not entry.missing and entry.location:
            listed = [
                FoundFile(path_in_uri(f.uri), f.uri, role_of(f.path), entry.where, f.size, None, f.sha256)
                for f in trees.files(entry.location)
            ]
            looked.files += len(listed)
            used.update(_revision_of(f.uri) or "" for f in listed)
        else:
            listed = [stated(f) for f in listed]
        checkpoints.append((entry, listed))
    chunks = [(entry, [stated(f) for f in files]) for entry, files in found.chunks]
    others = [stated(f) for f in found.others]
    looked.found = replace(found, checkpoints=checkpoints, chunks=chunks, others=others)
    looked.revisions = len(used)
    return looked


def count_unknown(found: Discovery) -> int:
    """Revisions on a Hub that hold files whose size or sha256 nobody has stated."""
    return len({r for r in map(_revision_of, _addresses(found)) if r})


def _addresses(found: Discovery) -> Iterable[str]:
    """Of everything on a Hub that something is not known of."""
    for entry, files in found.checkpoints:
        if not files and not entry.missing and entry.location:
            yield entry.location
    yield from (f.uri for f in found.files if f.size is None or not f.sha256)


def _revision_of(uri: str) -> str | None:
    """The part of an address on a Hub that names repository and revision; None for other addresses."""
    if not uri.startswith("hf://"):
        return None
    try:
        place = HubPlace.of(uri)
    except PortalError:
        return None
    kind = "datasets/" if place.kind == "datasets" else ""
    return f"hf://{kind}{place.repository}@{place.revision.replace('/', '%2F')}"


class _Trees:
    """Trees of revisions: remembered, or asked for now."""

    def __init__(self, settings: Settings, ask: bool) -> None:
        self._settings = settings
        self._ask = ask
        self._folder = settings.data / "store" / "hub-trees"
        self._held: dict[str, dict[str, StatedFile]] = {}
        self._small: dict[str, str] = {}
        """sha256 of small files by their git id."""
        self._lock = threading.Lock()
        self.unknown: dict[str, str] = {}

    def read(self, revisions: Iterable[str]) -> None:
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="look-up") as pool:
            for revision, tree in zip(revisions, pool.map(self._tree, revisions), strict=True):
                if tree is not None:
                    self._held[revision] = {f.path: f for f in tree}

    def file(self, uri: str) -> StatedFile | None:
        revision = _revision_of(uri)
        return self._held.get(revision or "", {}).get(HubPlace.of(uri).path) if revision else None

    def files(self, location: str) -> list[StatedFile]:
        """Those below a location."""
        revision = _revision_of(location)
        if revision is None:
            return []
        folder = HubPlace.of(location).path.strip("/")
        return [f for p, f in self._held.get(revision, {}).items() if not folder or p.startswith(f"{folder}/")]

    def _tree(self, revision: str) -> list[StatedFile] | None:
        path = self._path(revision)
        try:
            if self._ask:
                tree = self._asked(revision)
                self._remember(path, revision, tree)
                return tree
        except PortalError as error:
            with self._lock:
                self.unknown[revision] = error.message
        try:
            held = orjson.loads(path.read_bytes())
            return [StatedFile(**one) for one in held["files"]]
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _asked(self, revision: str) -> list[StatedFile]:
        store = cast(HubStore, open_remote(revision, self._settings))
        return [
            StatedFile(
                f.uri, f.path, f.size, f.etag if len(f.etag) == 64 else self._digest(store, f.uri, f.size, f.etag)
            )
            for f in store.list_files(revision)
        ]

    def _digest(self, store: HubStore, uri: str, size: int, git_id: str) -> str | None:
        """sha256 of a small file, which a Hub states by its git id alone; None where it is another file."""
        with self._lock:
            known = self._small.get(git_id)
        if known is not None or not 0 <= size <= SMALL:
            return known
        body = store.read_range(uri, 0, size) if size else b""
        if hashlib.sha1(b"blob %d\0" % size + body, usedforsecurity=False).hexdigest() != git_id:
            return None
        digest = hashlib.sha256(body).hexdigest()
        with self._lock:
            self._small[git_id] = digest
        return digest

    def _path(self, revision: str) -> Path:
        key = hashlib.sha256(f"{self._settings.hf_endpoint.rstrip('/')}\n{revision}".encode()).hexdigest()
        return self._folder / f"{key}.json"

    def _remember(self, path: Path, revision: str, tree: list[StatedFile]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        about: dict[str, Any] = {
            "revision": revision,
            "endpoint": self._settings.hf_endpoint,
            "asked_at": datetime.now(UTC),
            "files": tree,
        }
        temporary = path.with_suffix(f".{threading.get_ident()}.part")
        temporary.write_bytes(orjson.dumps(about))
        temporary.replace(path)
