"""Write the bundle of a run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import orjson
from sqlmodel import Session

from portal.catalog.files import FileRow
from portal.catalog.findings import config_view
from portal.client.bundled import LIST, Bundle, BundledFile
from portal.client.released import SUMS
from portal.database import Engine, open_session
from portal.errors import PortalError
from portal.exchange.assemble import canonical_manifest
from portal.exchange.attest import Portal
from portal.exchange.bundle.collect import Collected, collect
from portal.exchange.bundle.writing import Draft, drafted
from portal.exchange.copying import open_source, read_checked
from portal.exchange.places import is_remote, path_in_uri
from portal.exchange.provenance import provenance_of, sign_provenance
from portal.manifest.read import NAMES, read_manifest_file
from portal.metrics.export import to_parquet
from portal.settings import Settings
from portal.signing.keys import SigningKey
from portal.storage.local import path_of
from portal.storage.pace import Pace

OWN = "bundle/"
"""Folder of what the portal adds."""
INDEX = "index.html"
COPIES = "copies/"
"""Folder of files that the release names by their address elsewhere."""
SIGNATURE = "release.sig"

Pages = Callable[[Collected, Bundle], Mapping[str, bytes]]
"""Makes the pages of a bundle, by their path in it."""


class ExportProgress(Protocol):
    """What a caller is told while a run is exported."""

    def begin(self, phase: str, total_bytes: int) -> None:
        """A phase starts; ``total_bytes`` is 0 where its length is not known."""

    def advance(self, count: int) -> None:
        """Bytes just done in this phase."""


@dataclass(frozen=True)
class ExportPlan:
    """What goes into a bundle besides manifest, numbers, configs and pages."""

    checkpoints: bool = False
    """The files of checkpoints."""
    chunks: bool = False
    """The files of chunks and of the data order."""
    rate: int | None = None
    """Bytes a second that copying may read."""
    address: str = ""
    """Where the portal is reached, as provenance names it."""
    key: SigningKey | None = None
    """What provenance is signed with."""


@dataclass
class ExportReport:
    """What a bundle holds."""

    run: str
    version: int
    to: Path
    files: int = 0
    """Files in the bundle."""
    released: int = 0
    """Released files whose bytes are in it."""
    left_out: int = 0
    """Released files that it names by their digest alone."""
    bytes: int = 0
    notes: list[str] = field(default_factory=list)
    """What could not be put into it, and why."""


def export_run(  # noqa: PLR0913 - what to write where, and whom to tell
    engine: Engine, settings: Settings, run: str, to: Path, plan: ExportPlan, pages: Pages, progress: ExportProgress
) -> ExportReport:
    """Write the bundle of the current version of ``run`` to a folder, or an archive by the end of its name.

    It appears whole or not at all; the same again leaves it as it is, another state of the run replaces it. Raises
    RunNotFound, UsageError for a place that holds something else, IntegrityError for a file that is not what was
    published.
    """
    with open_session(engine) as session:
        collected = collect(session, settings, run)
        with drafted(to, run) as draft:
            work = _Work(session, collected, plan, draft, progress)
            bundle = work.fill()
            for path, text in pages(collected, bundle).items():
                draft.write(path, [text])
            draft.write(LIST, [bundle.written()])
    report = ExportReport(run, collected.facts.head.version, to, notes=bundle.notes)
    report.released = sum(1 for f in bundle.files if f.inside)
    report.left_out = len(bundle.files) - report.released
    report.files, report.bytes = len(draft.sums), work.written
    return report


@dataclass
class _Work:
    session: Session
    run: Collected
    plan: ExportPlan
    draft: Draft
    progress: ExportProgress
    notes: Counter[str] = field(default_factory=Counter)
    written: int = 0

    def fill(self) -> Bundle:
        """Everything but pages and list."""
        manifest = self._manifest()
        files = self._files()
        self._signatures()
        self._numbers()
        self._records()
        self._provenance()
        head = self.run.facts.head
        notes = [f"{note} ({count:,} times)" if count > 1 else note for note, count in self.notes.items()]
        return Bundle(
            run=self.run.run,
            version=head.version,
            fingerprint=self.run.fingerprint,
            published_at=head.published_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            manifest=manifest,
            portal=self.run.links.public_url,
            files=files,
            notes=notes,
        )

    def _manifest(self) -> str:
        """The manifest as it was written where that file is still there, because signatures speak of its bytes."""
        if self.run.root.startswith("file://"):
            for name in NAMES:
                path = path_of(self.run.root) / name
                try:
                    if not path.is_file():
                        continue
                    found = read_manifest_file(path, self.run.settings.max_manifest_bytes)
                    if canonical_manifest(found) == self.run.manifest:
                        self._write(name, [path.read_bytes()])
                        return name
                except (PortalError, OSError):
                    continue
        document = orjson.dumps(orjson.loads(self.run.manifest), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        self._write("release.json", [document, b"\n"])
        return "release.json"

    def _files(self) -> list[BundledFile]:
        wanted = [(row, self._place(row)) for row in self.run.files]
        copied = [row for row, place in wanted if place]
        self.progress.begin("copy", sum(row.size or 0 for row in copied))
        pace = Pace(self.plan.rate)
        return [self._file(row, place, pace) for row, place in wanted]

    def _place(self, row: FileRow) -> str | None:
        """Where a file goes in the bundle; None where it stays out of it."""
        uri = declared_uri(row)
        if row.checkpoint_id is not None:
            chosen = self.plan.checkpoints
        elif row.chunk_id is not None or row.role == "index":
            chosen = self.plan.chunks
        else:
            chosen = uri is None or self.plan.checkpoints or self.plan.chunks
        if not chosen:
            return None
        if uri is not None:
            return copy_path(uri)
        first = row.path.partition("/")[0]
        if row.path in (INDEX, LIST, SUMS, SIGNATURE, *NAMES) or f"{first}/" in (OWN, COPIES):
            self.notes[f"{row.path} has the name of a part of the bundle itself and is left out"] += 1
            return None
        return row.path

    def _file(self, row: FileRow, place: str | None, pace: Pace) -> BundledFile:
        sha256, size = row.sha256, row.size
        if place is not None and not self.draft.holds(place):
            try:
                if self.draft.take_over(place, row.size, row.sha256):
                    self.progress.advance(row.size or 0)
                else:
                    self._copy(row, place, pace)
            except PortalError as error:
                if _was_asked_for(row):
                    raise
                self.notes[f"{row.path} could not be read: {error.message}"] += 1
                place = None
        if place is not None:
            size = (self.draft.folder / place).stat().st_size
            sha256 = self.draft.sums[place]
        return BundledFile(row.path, row.role, size, sha256, declared_uri(row) or self._address(row), place)

    def _copy(self, row: FileRow, place: str, pace: Pace) -> None:
        source = open_source(row, self.run.settings, pace)
        self._write(place, self._told(read_checked(source, row)))

    def _told(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for data in pieces:
            self.progress.advance(len(data))
            yield data

    def _address(self, row: FileRow) -> str | None:
        address = self.run.links.address(row)
        return address if address and is_remote(address) else None

    def _signatures(self) -> None:
        for number, (key_id, text) in enumerate(self.run.signatures.items()):
            if number == 0:
                # Under this name `portal verify --key` and `model_signing verify` look for it.
                self._write(SIGNATURE, [text.encode()])
            self._write(f"{OWN}signatures/{key_id}.sig", [text.encode()])

    def _numbers(self) -> None:
        self.progress.begin("metrics", 0)
        for number, one in enumerate(self.run.series()):
            if one.numbers is None:
                self.notes[f"The numbers of {one.view.name} are damaged or gone"] += 1
                continue
            self._write(series_path(number, one.view.name), to_parquet(one.numbers))

    def _records(self) -> None:
        facts = self.run.facts
        series = [{"file": series_path(k, s.view.name), **_plain(s.view)} for k, s in enumerate(facts.series)]
        records: dict[str, Any] = {
            "run": self.run.detail,
            "checkpoints": [c.row for c in facts.checkpoints],
            "chunks": [c.row for c in facts.chunks.values()],
            "configs": [config_view(c, self.run.links) for c in facts.configs],
            "events": facts.events,
            "findings": facts.findings,
            "evaluations": self.run.evaluations,
            "series": series,
        }
        for name, value in records.items():
            self._write(f"{OWN}{name}.json", [_as_json(value)])

    def _provenance(self) -> None:
        self.progress.begin("provenance", 0)
        portal = Portal(self.plan.address, self.plan.key) if self.plan.key else None
        for checkpoint in self.run.facts.checkpoints:
            row = checkpoint.row
            if row.missing or row.step is None:
                continue
            try:
                if portal:
                    told = sign_provenance(self.session, self.run.settings, self.run.run, str(row.step), portal)
                else:
                    told = provenance_of(
                        self.session, self.run.settings, self.run.run, str(row.step), self.plan.address
                    )
            except PortalError as error:
                self.notes[f"No provenance of a checkpoint: {_reason(error)}"] += 1
                continue
            ending = "dsse.json" if portal else "json"
            self._write(f"{OWN}provenance/step-{row.step}.{ending}", [_as_json(told)])

    def _write(self, path: str, pieces: Iterable[bytes]) -> None:
        self.written += self.draft.write(path, pieces)


def _was_asked_for(row: FileRow) -> bool:
    return row.checkpoint_id is not None or row.chunk_id is not None or row.role == "index"


def declared_uri(row: FileRow) -> str | None:
    """The address under which the manifest names a file; None where it names it by a path of the release."""
    return next((p.uri for p in row.places if is_remote(p.uri) and path_in_uri(p.uri) == row.path), None)


def copy_path(uri: str) -> str:
    """Where the copy of a file elsewhere lies in a bundle."""
    scheme, _, rest = uri.partition("://")
    parts = [quote(part, safe="@=+,!") for part in rest.split("/") if part]
    parts = [part.replace(".", "%2E") if set(part) == {"."} else part for part in parts]
    return f"{COPIES}{scheme}/{'/'.join(parts)}"


def series_path(number: int, name: str) -> str:
    """Where the numbers of a series lie in a bundle: names of series may hold anything."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name).strip("-.")[:80]
    # Two names may differ in what cannot stand in a file's name.
    return (
        f"{OWN}metrics/{number:03d}-{plain or hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}.parquet"
    )


def _reason(error: PortalError) -> str:
    return "a file has no published sha256" if " has no published sha256" in error.message else error.message


def _plain(view: Any) -> dict[str, Any]:
    return dict(vars(view))


def _as_json(value: Any) -> bytes:
    options = orjson.OPT_INDENT_2 | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(value, option=options) + b"\n"
