"""Files of a release: where they lie and where a client gets them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from urllib.parse import quote

from sqlmodel import Session, col, select

from portal.catalog.answers import CopyState, FileView
from portal.catalog.tombstones import find_withdrawn_file, withdrawn_releases
from portal.errors import FileNotCatalogued
from portal.models import File, FileLocation
from portal.settings import Settings
from portal.storage import REMOTE_SCHEMES

STORE = "store"
"""Where a file lies that is in the portal's own bucket, to readers who get its bytes through the portal."""


@dataclass(frozen=True)
class FilePlace:
    """One place where the bytes of a file lie."""

    uri: str
    state: str
    modified_ns: int | None
    verified_at: datetime | None
    checked_at: datetime | None = None
    checked_bytes: int | None = None


@dataclass(frozen=True)
class FileRow:
    """A catalogued file with all its places, the portal's own first."""

    id: int
    checkpoint_id: int | None
    chunk_id: int | None
    path: str
    role: str
    size: int | None
    sha256: str | None
    places: tuple[FilePlace, ...]

    @cached_property
    def local(self) -> FilePlace | None:
        """The place on this machine that still holds it; one with other bytes only where no good copy is in reach."""
        here = [p for p in self.places if _is_local(p) and p.state != "missing"]
        sound = next((p for p in here if p.state != "changed"), None)
        return sound or (None if self.elsewhere else next(iter(here), None))

    @cached_property
    def elsewhere(self) -> FilePlace | None:
        """The nearest place elsewhere that can be read by range and is not known to be wrong."""
        return next(
            (
                p
                for p in self.places
                if p.uri.partition("://")[0] in REMOTE_SCHEMES and p.state not in ("missing", "changed")
            ),
            None,
        )


def place_in_reach(row: FileRow) -> FilePlace | None:
    """The nearest place its bytes can be read from: on this machine, else elsewhere by range."""
    return row.local or row.elsewhere


@dataclass(frozen=True)
class Links:
    """How places become addresses a client can open."""

    public_url: str = ""
    hf_endpoint: str = "https://huggingface.co"
    through: bool = False
    """Whether the portal hands out the bytes of files elsewhere itself."""
    own: str = ""
    """What addresses in the portal's own store begin with, where that is a bucket."""

    @classmethod
    def of(cls, settings: Settings | None) -> Links:
        """From the settings, or the defaults without them."""
        if settings is None:
            return cls()
        through = settings.remote_files == "proxy"
        store = settings.storage_url.rstrip("/")
        own = f"{store}/" if store.startswith("s3://") else ""
        return cls(settings.public_url.rstrip("/"), settings.hf_endpoint.rstrip("/"), through, own)

    def file_view(self, row: FileRow) -> FileView:
        """The file as answers show it; folders of this machine stay private, and a bucket that no reader is sent to."""
        place = place_in_reach(row) or (row.places[0] if row.places else FilePlace("", "unverified", None, None))
        return FileView(
            path=row.path,
            size=row.size,
            sha256=row.sha256,
            role=row.role,
            url=self.address(row),
            location=self._shown(place),
            state=place.state,
            verified_at=place.verified_at,
            checked_at=place.checked_at,
            checked_bytes=place.checked_bytes,
            copies=[CopyState(self._shown(p), p.state) for p in row.places if p is not place],
        )

    def address(self, row: FileRow) -> str | None:
        """Where to download a file: here when its bytes are here or need an address signed for each request, else at
        its own public address."""
        if row.sha256 and (row.local is not None or self._leads_on(row)):
            return f"{self.public_url}/files/{row.sha256}/{quote(row.path.rsplit('/', 1)[-1])}"
        return next((url for place in row.places if (url := self.public_address(place.uri))), None)

    def _shown(self, place: FilePlace) -> str:
        if _is_local(place):
            return "local"
        # Whoever is redirected reads the bucket's name in the signed address; whoever is not, need not know it.
        return STORE if self.through and self.own and place.uri.startswith(self.own) else place.uri

    def _leads_on(self, row: FileRow) -> bool:
        nearest = next((p.uri for p in row.places if p.state not in ("missing", "changed")), "")
        return nearest.startswith("s3://") or (self.through and bool(nearest))

    def public_address(self, uri: str) -> str | None:
        """The http(s) address of a location, or None where only the portal's operator can reach it."""
        scheme, _, rest = uri.partition("://")
        if scheme in ("http", "https"):
            return uri
        return _hub_address(self.hf_endpoint, rest) if scheme == "hf" else None


def load_files(session: Session, release_id: int, *conditions: object) -> list[FileRow]:
    """Files of a release in their own order, in one query; further conditions narrow them."""
    statement = (
        select(File, FileLocation)
        .join(FileLocation, col(FileLocation.file_id) == col(File.id), isouter=True)
        .where(File.release_id == release_id, *conditions)  # type: ignore[arg-type]
        .order_by(col(File.position), col(File.id), col(FileLocation.id))
    )
    return _grouped(session.execute(statement).all())


def find_file(session: Session, sha256: str, name: str = "") -> FileRow:
    """A file by its hash with every place any release knows it at; FileNotCatalogued when none does, Withdrawn when only
    withdrawn ones do.

    Equal bytes may have several names; ``name`` (the last part of a path) prefers one.
    """
    statement = (
        select(File, FileLocation)
        .join(FileLocation, col(FileLocation.file_id) == col(File.id), isouter=True)
        .where(File.sha256 == sha256, col(File.release_id).not_in(withdrawn_releases()))
        .order_by(col(File.id), col(FileLocation.id))
        .limit(500)
    )
    rows = _grouped(session.execute(statement).all())
    if not rows:
        if (gone := find_withdrawn_file(session, sha256)) is not None:
            raise gone
        raise FileNotCatalogued(
            f"No release holds a file with sha256 {sha256}.", "Take the address from the run's file list."
        )
    places = {place.uri: place for row in rows for place in row.places}
    named = next((row for row in rows if row.path.rsplit("/", 1)[-1] == name), rows[0])
    return replace(named, places=tuple(sorted(places.values(), key=partial(_nearest, sha256))))


def _grouped(pairs: object) -> list[FileRow]:
    found: dict[int, tuple[File, list[FilePlace]]] = {}
    for file, location in pairs:  # type: ignore[attr-defined]
        places = found.setdefault(file.id, (file, []))[1]
        if location is not None:
            times = location.verified_at, location.checked_at
            places.append(FilePlace(location.uri, location.state, location.modified_ns, *times, location.checked_bytes))
    return [
        FileRow(key, f.checkpoint_id, f.chunk_id, f.path, f.role, f.size, f.sha256, _in_order(places, f.sha256))
        for key, (f, places) in found.items()
    ]


def _in_order(places: list[FilePlace], sha256: str | None) -> tuple[FilePlace, ...]:
    return tuple(sorted(places, key=partial(_nearest, sha256)) if len(places) > 1 else places)


def _is_local(place: FilePlace) -> bool:
    return place.uri.startswith("file://")


def _nearest(sha256: str | None, place: FilePlace) -> tuple[bool, bool, bool, bool, str]:
    # A bucket this portal can sign for is its operator's own; what is public elsewhere is somebody else's. What has its
    # sha256 for a name lies in the portal's own store, where nobody writes over it.
    uri = place.uri
    named = sha256 is not None and uri.endswith(sha256)
    return place.state == "missing", not _is_local(place), not uri.startswith("s3://"), not named, uri


def _hub_address(endpoint: str, rest: str) -> str | None:
    """``[datasets/]org/name[@revision]/path`` (as HfFileSystem writes it) as the Hub's resolve address."""
    parts = rest.split("/")
    kind = parts.pop(0) + "/" if parts[0] in ("datasets", "spaces") else ""
    if len(parts) < 3:
        return None
    name, _, revision = parts[1].partition("@")
    path = "/".join(quote(part) for part in parts[2:])
    return f"{endpoint}/{kind}{parts[0]}/{name}/resolve/{quote(revision or 'main', safe='%')}/{path}"
