"""Is it what it claims: checks over a catalogued run that end in findings.

Each module holds one family of checks as a function ``(ScanInput) -> list[FoundFinding]``;
`CHECKS` lists them. A check reads what the catalog already knows; only a deep scan reads bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session

from portal.catalog.record import record_findings, record_location_states
from portal.catalog.releases import current_release_id
from portal.catalog.scanned import ScanInput, load_scan_input
from portal.database import open_session
from portal.scan import declared, dtypes, duplicates, gaps, order, tokens
from portal.scan.finding import FoundFinding
from portal.scan.fixity import check_files
from portal.settings import Settings
