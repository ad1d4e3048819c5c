"""One publication on its way: what a local folder and an upload have in common, from known digests to the catalog."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sqlmodel import Session

from portal.catalog.answers import FoundFinding
from portal.catalog.audit.writing import OPERATOR
from portal.catalog.published import KnownFile, Published, find_published, known_files
from portal.catalog.record import record_findings, record_release, recording
from portal.catalog.recorded import ReleaseRecord
from portal.catalog.visibility import PRIVATE, close_run
from portal.database import Engine, open_session
from portal.errors import Fault, ManifestRefused
from portal.exchange.assemble import assemble_release, fingerprint_of
from portal.exchange.digests import Digested, PublishProgress
from portal.exchange.discover import Discovery
from portal.exchange.ingest import Numbers, ingest
from portal.exchange.numbers import NumbersFolder
from portal.exchange.small_files import SmallFiles, read_small_files
from portal.manifest import Manifest
from portal.scan import Foreseen, Looked, foresee, look_at_release, scan_release
from portal.settings import Settings


@dataclass(frozen=True)
class PublishReport:
    """What a publication did, or would do."""

    run: str
    version: int
    """Version that is current now; of a dry run, the version it would get."""
    state: str
    """``published``, ``unchanged`` or ``dry-run``."""
    checkpoints: int
    chunks: int
    files: int
    bytes_hashed: int
    bytes_reused: int
    series: int
    points: int
    findings: list[FoundFinding] = field(default_factory=list)
    plan: list[str] = field(default_factory=list)
    """What was, or would be, done, one sentence each."""
    seconds: float = 0.0


Accompany = Callable[[Session, int, PublishReport], None]
"""Records what goes with a release (its id) in the same transaction: a signature, the answer to the request."""


@dataclass
class Publication:
    """What is known so far."""

    manifest: Manifest
    found: Discovery
    source: str
    settings: Settings
    engine: Engine
    progress: PublishProgress | None = None
    by: str | None = None
    """Who publishes; None: the operator, on this machine."""
    after: int | None = None
    """The version it is to follow (0: none); None: whichever is current."""
    accompany: Accompany | None = None
    private_to: str | None = None
    """The organisation it is to be private to whatever the manifest says; None: the manifest decides."""
    reason: str = ""
    """Why it follows another version."""
    met: list[FoundFinding] = field(default_factory=list)
    """What was found out on the way here."""
    told: list[str] = field(default_factory=list)
    """What else the publisher is told, one sentence each."""
    started: float = field(default_factory=time.perf_counter)
    current: Published | None = None
    known: dict[str, KnownFile] = field(default_factory=dict)
    digested: Digested = field(default_factory=Digested)

    def refuse(self, faults: Sequence[Fault]) -> None:
        """Raise ManifestRefused when there is any fault."""
        if faults:
            raise ManifestRefused(self.source, list(faults))

    def begin(self, phase: str) -> None:
        """Tell that a phase without a known length starts."""
        if self.progress:
            self.progress.begin(phase, 0)

    def look_up(self) -> None:
        """What is published of the run now."""
        with open_session(self.engine) as session:
            self.current = find_published(session, self.manifest.run)
            self.known = known_files(session, self.current.release_id) if self.current else {}

    def read_elsewhere(self, ask: bool = True) -> SmallFiles:
        """Numbers, configs and tokenizer that lie elsewhere, read before anything is compared or recorded."""
        read = read_small_files(self.found, self.settings, self.progress, ask)
        self.found = read.found
        self.met += read.findings
        return read

    def foresee(self) -> Foreseen:
        """What the scan will find in data and orders, as far as that is known before hashing."""
        of_chunks = [(c.name, c.rows, [self.digested.recorded(f) for f in files]) for c, files in self.found.chunks]
        return foresee(self.manifest, of_chunks, [self.digested.recorded(f) for f in self.found.loose], self.settings)

    @property
    def fingerprint(self) -> str:
        """Of the manifest over its files."""
        return fingerprint_of(self.manifest, self.found, self.digested)

    def numbers_folder(self, fingerprint: str) -> NumbersFolder:
        """Where the series of this content lie."""
        return NumbersFolder.of(self.settings.data, self.manifest.run, fingerprint)

    def read_numbers(self) -> Numbers:
        """Metrics, evaluations and configs; ManifestRefused when one cannot be read."""
        self.begin("Reading metrics and evaluations")
        numbers = ingest(self.manifest, self.found)
        self.refuse(numbers.faults)
        numbers.findings += self.met
        return numbers

    def restore(self) -> str | None:
        """Read the numbers of the current version again where this portal's folder does not hold them."""
        current = self.current
        if current is None or not self.numbers_folder(current.fingerprint).lacks(current):
            return None
        return self.numbers_folder(current.fingerprint).restore(self.read_numbers(), current)

    def record(self, fingerprint: str, numbers: Numbers) -> PublishReport | None:
        """Make it the current version; None when the catalog holds this content already.

        Raises VersionTaken when another version than ``after`` is current.
        """
        folder = self.numbers_folder(fingerprint)
        # An earlier version of the same content may own the folder already; then its numbers are the same.
        existed = folder.exists()
        try:
            stored = folder.write(numbers)
            record = assemble_release(self.manifest, self.found, self.digested, numbers, stored, self.settings)
            self.begin("Scanning")
            looked = look_at_release(record, self.settings)
            self.begin("Recording")
            return self._commit(replace(record, by=self.by, reason=self.reason), numbers, looked)
        except BaseException:
            if not existed:
                folder.remove()
            raise

    def unchanged(self, numbers_restored: str | None, record: Callable[[Session, int], object] | None) -> PublishReport:
        """The catalog holds this content already; ``record`` notes what is new about its files, by release."""
        assert self.current is not None  # noqa: S101 - the caller compared its fingerprint
        same = f"version {self.current.version} of {self.manifest.run} is the same manifest over the same files."
        plan = [f"Nothing to record: {same}", numbers_restored] if numbers_restored else [f"Nothing to do: {same}"]
        report = self.report("unchanged", self.current.version, [], plan)
        if record or self.accompany or self.private_to:
            with recording(self.engine) as session:
                if self.private_to:
                    close_run(session, self.manifest.run, self.private_to, self.by or OPERATOR)
                if record:
                    record(session, self.current.release_id)
                if self.accompany:
                    self.accompany(session, self.current.release_id, report)
        return report

    def report(
        self, state: str, version: int, findings: list[FoundFinding], plan: list[str], numbers: Numbers | None = None
    ) -> PublishReport:
        """What was done up to now."""
        current = self.current
        return PublishReport(
            run=self.manifest.run,
            version=version,
            state=state,
            checkpoints=sum(1 for entry, _ in self.found.checkpoints if not entry.missing),
            chunks=len(self.found.chunks),
            files=len(self.found.files),
            bytes_hashed=self.digested.bytes_hashed,
            bytes_reused=self.digested.bytes_reused,
            series=len(numbers.series) if numbers else current.series if current else 0,
            points=sum(len(s.steps) for s in numbers.series) if numbers else current.points if current else 0,
            findings=findings,
            plan=[*plan, *self.told],
            seconds=time.perf_counter() - self.started,
        )

    def _commit(self, record: ReleaseRecord, numbers: Numbers, looked: Looked) -> PublishReport | None:
        with recording(self.engine) as session:
            recorded = record_release(session, record, self.after)
            if recorded is None:
                return None
            release_id, version = recorded
            owner = self.private_to or (organisation_of(self.manifest) if self.manifest.visibility == PRIVATE else None)
            if owner:
                close_run(session, self.manifest.run, owner, self.by or OPERATOR)
            findings = scan_release(session, release_id, looked)
            record_findings(session, release_id, findings, met=numbers.findings)
            done = f"Published {self.manifest.run} as version {version}."
            report = self.report("published", version, [*findings, *numbers.findings], [done], numbers)
            if self.accompany:
                self.accompany(session, release_id, report)
        return report


def organisation_of(manifest: Manifest) -> str:
    """Whose run it is."""
    return manifest.run.partition("/")[0]
