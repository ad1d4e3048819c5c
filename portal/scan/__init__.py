"""Is it what it claims: checks over a catalogued run that end in findings.

Each module holds one family of checks; `scan_release` runs them all on one release. A plain
scan reads what the catalog knows, file sizes and headers; only a deep scan re-hashes bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlmodel import Session

from portal.catalog.answers import FoundFinding
from portal.catalog.checks import CODES
from portal.catalog.record import record_findings
from portal.catalog.release import load_facts
from portal.catalog.scanned import ScanInput, load_scan_input
from portal.database import Engine, open_session
from portal.scan.dtypes import find_dtype_flips
from portal.scan.duplicates import find_duplicates
from portal.scan.gaps import find_gaps
from portal.scan.order import find_order_faults
from portal.scan.readable import find_unreadable_chunks
from portal.scan.series import find_series_outside_run
from portal.scan.tokens import find_token_disagreements
from portal.scan.verify import FixityReport, Plan, verify_release
from portal.settings import Settings

__all__ = ["FixityReport", "FoundFinding", "ScanReport", "scan_release", "scan_run"]


@dataclass(frozen=True)
class ScanReport:
    """What a scan of one run found."""

    run: str
    findings: list[FoundFinding]
    fixity: FixityReport


def scan_release(session: Session, settings: Settings, release_id: int) -> list[FoundFinding]:
    """Every finding about a release whose files were hashed just now; nothing is written."""
    return _find_all(load_scan_input(session, release_id), settings)


def scan_run(
    engine: Engine, settings: Settings, run: str, deep: bool = False, progress: Callable[[str, int], None] | None = None
) -> ScanReport:
    """Scan the current release of ``run`` and store what was found.

    With ``deep`` every local file is hashed again. No session is open while files are read.
    """
    with open_session(engine) as session:
        release_id = load_facts(session, run).head.id
        scanned = load_scan_input(session, release_id)
    fixity = verify_release(engine, settings, release_id, Plan(hash_local=deep), progress)
    findings = _find_all(scanned, settings)
    with open_session(engine) as session:
        record_findings(session, release_id, findings, kept=CODES)
        session.commit()
    return ScanReport(scanned.run, [*findings, *fixity.findings], fixity)


def _find_all(scanned: ScanInput, settings: Settings) -> list[FoundFinding]:
    return [
        *_known(scanned),
        *find_duplicates(scanned),
        *find_gaps(scanned),
        *find_dtype_flips(scanned, settings),
        *find_token_disagreements(scanned),
        *find_order_faults(scanned),
        *find_unreadable_chunks(scanned, settings),
        *find_series_outside_run(scanned),
    ]


def _known(scanned: ScanInput) -> list[FoundFinding]:
    return [
        FoundFinding(k.code, k.severity, k.message, k.step, dict(k.evidence), f"manifest-{number}")
        for number, k in enumerate(scanned.manifest.findings)
    ]
