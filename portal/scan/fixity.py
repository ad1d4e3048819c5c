"""Files that are gone or are no longer what was published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ScanInput, ScannedFile
from portal.errors import FileMissing
from portal.settings import Settings
from portal.storage import StoredFile, open_store
from portal.storage.hashing import hash_file


@dataclass
class FixityReport:
    """What became of each file; ``states`` maps location ids to the state a look at the bytes gave them.

    A file that was not hashed and shows no change is not in ``states``: it was not verified again.
    """

    findings: list[FoundFinding] = field(default_factory=list)
    states: dict[int, str] = field(default_factory=dict)
    checked: int = 0
    hashed_bytes: int = 0
    remote: int = 0
    """Files that lie outside this portal and were not looked at."""


def check_files(
    scanned: ScanInput, settings: Settings, deep: bool = False, progress: Callable[[str, int], None] | None = None
) -> FixityReport:
    """Compare every local file with what was published: size and time, and with ``deep`` its sha256.

    A file whose size or time differs is hashed even without ``deep``: a touched file with the same
    bytes is not a finding.
    """
    report = FixityReport()
    by_uri: dict[str, str | None] = {}
    for file in scanned.files:
        if not file.uri.startswith("file://"):
            report.remote += 1
            continue
        if file.uri not in by_uri:
            by_uri[file.uri] = _check(file, scanned, settings, deep, report)
            if progress:
                progress(file.path, file.size or 0)
        if (state := by_uri[file.uri]) is not None:
            report.states[file.location_id] = state
    return report


def _check(file: ScannedFile, scanned: ScanInput, settings: Settings, deep: bool, report: FixityReport) -> str | None:
    report.checked += 1
    store = open_store(file.uri, settings)
    try:
        found = store.stat(file.uri)
    except FileMissing:
        report.findings.append(
            _finding("file-missing", f"{file.path} is no longer where it was published from.", file, scanned)
        )
        return "missing"
    if found.size != file.size:
        message = f"{file.path} has {found.size:,} bytes; {file.size or 0:,} were published."
        report.findings.append(_finding("file-changed", message, file, scanned, {"size": found.size}))
        return "changed"
    if not deep and found.modified_ns == file.modified_ns and file.state == "verified":
        return None
    return _check_digest(file, scanned, found, settings, report)


def _check_digest(
    file: ScannedFile, scanned: ScanInput, found: StoredFile, settings: Settings, report: FixityReport
) -> str | None:
    path = open_store(file.uri, settings).local_path(file.uri)
    if path is None or file.sha256 is None:
        return None
    digest = hash_file(path)
    report.hashed_bytes += found.size
    if digest.sha256 == file.sha256:
        return "verified"
    message = f"{file.path} no longer has the sha256 it was published with."
    report.findings.append(_finding("file-changed", message, file, scanned, {"found_sha256": digest.sha256}))
    return "changed"


def _finding(
    code: str, message: str, file: ScannedFile, scanned: ScanInput, more: dict[str, object] | None = None
) -> FoundFinding:
    step = next((c.step for c in scanned.checkpoints if c.checkpoint.id == file.checkpoint_id), None)
    evidence = {"path": file.path, "uri": file.uri, "size": file.size, "sha256": file.sha256, **(more or {})}
    return FoundFinding(code, "error", message, step, evidence, file.path)
