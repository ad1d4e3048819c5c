"""Is it what it claims: checks over a catalogued run that end in findings.

Each module holds one family of checks; `scan_release` runs them all on one release. A plain
scan reads what the catalog knows, file sizes and headers; only a deep scan re-hashes bytes.
Bytes are read first, while no session is open: a store elsewhere may be slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from portal.catalog.answers import FoundFinding
from portal.catalog.checks import CODES
from portal.catalog.record import record_findings
from portal.catalog.recorded import ReleaseRecord
from portal.catalog.release import load_facts
from portal.catalog.scanned import ReadFile, ScanInput, load_scan_input
from portal.database import Engine, open_session
from portal.manifest import Manifest, chunks_of
from portal.scan.dtypes import Dtypes, find_dtype_flips, read_dtypes
from portal.scan.duplicates import find_duplicates
from portal.scan.gaps import find_gaps
from portal.scan.model import find_model_disagreements
from portal.scan.order import find_order_faults, find_short_orders
from portal.scan.order_file import find_order_file_faults
from portal.scan.readable import look_at_chunks
from portal.scan.series import find_series_outside_run
from portal.scan.tokens import find_token_disagreements
from portal.scan.verify import FixityReport, Plan, verify_release
from portal.scan.weights import find_incomplete_checkpoints
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.blobs import is_here
from portal.tokens.readers import ReadableFile, is_indexed

__all__ = [
    "ChunkFiles",
    "FixityReport",
    "Foreseen",
    "FoundFinding",
    "Looked",
    "ScanReport",
    "foresee",
    "look_at_release",
    "scan_release",
    "scan_run",
]

ChunkFiles = tuple[str, int | None, Sequence[ReadFile]]
"""Name of a chunk, its rows as declared or counted, and its files in shard order."""


@dataclass(frozen=True)
class Looked:
    """What the bytes of a release say."""

    dtypes: Dtypes
    found: list[FoundFinding]
    """Chunks, order files, tokenizer and config that are not what is declared."""


@dataclass(frozen=True)
class Foreseen:
    """What is known of a release's data before a byte is hashed."""

    findings: list[FoundFinding]
    uncounted: list[str]
    """Chunks that are here whose rows are counted only when they are hashed."""


@dataclass(frozen=True)
class ScanReport:
    """What a scan of one run found."""

    run: str
    findings: list[FoundFinding]
    fixity: FixityReport


def look_at_release(record: ReleaseRecord, settings: Settings) -> Looked:
    """Read what the scan of a release needs of its bytes, before it is recorded."""
    weights = [f for _, files in record.checkpoints for f in files]
    chunks = [(entry.name, entry.rows, files) for entry, files in record.chunks]
    return _look(record.manifest, weights, chunks, record.files, settings)


def foresee(
    manifest: Manifest, chunks: Sequence[ChunkFiles], others: Sequence[ReadFile], settings: Settings
) -> Foreseen:
    """What the manifest states itself, and what a scan will find in data and orders that are here; nothing is written.

    Lines that were never counted are left alone: counting them is reading the whole chunk.
    """
    formats = {c.name: c.format for c in chunks_of(manifest)}
    lines = {name for name, _, files in chunks if formats[name] == "jsonl" and not _all_indexed(files, settings)}
    looked = look_at_chunks(manifest, [(name, files) for name, _, files in chunks if name not in lines], settings)
    rows = {name: looked.rows.get(name) if declared is None else declared for name, declared, _ in chunks}
    return Foreseen(
        [
            *_known(manifest),
            *looked.findings,
            *find_short_orders(manifest, rows, others),
            *find_order_file_faults(manifest, rows, looked.rows, others, settings),
        ],
        [name for name, _, files in chunks if rows[name] is None and name in lines and _all_here(files, settings)],
    )


def scan_release(session: Session, release_id: int, looked: Looked) -> list[FoundFinding]:
    """Every finding about a release whose files were hashed just now; nothing is written, and no file read."""
    return _find_all(load_scan_input(session, release_id), looked)


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
    weights = [f for checkpoint in scanned.checkpoints for f in checkpoint.files]
    chunks = [(chunk.chunk.name, chunk.chunk.rows, chunk.files) for chunk in scanned.chunks]
    findings = _find_all(scanned, _look(scanned.manifest, weights, chunks, scanned.other_files, settings))
    with open_session(engine) as session:
        record_findings(session, release_id, findings, kept=CODES)
        session.commit()
    return ScanReport(scanned.run, [*findings, *fixity.findings], fixity)


def _look(
    manifest: Manifest,
    weights: Sequence[ReadFile],
    chunks: Sequence[ChunkFiles],
    others: Sequence[ReadFile],
    settings: Settings,
) -> Looked:
    """``others`` belong to no checkpoint and no chunk."""
    looked = look_at_chunks(manifest, [(name, files) for name, _, files in chunks], settings)
    rows = {name: rows for name, rows, _ in chunks}
    found = looked.findings + find_order_file_faults(manifest, rows, looked.rows, others, settings)
    return Looked(read_dtypes(weights, settings), found + find_model_disagreements(manifest, others, settings))


def _find_all(scanned: ScanInput, looked: Looked) -> list[FoundFinding]:
    return [
        *_known(scanned.manifest),
        *find_duplicates(scanned),
        *find_gaps(scanned),
        *find_dtype_flips(scanned, looked.dtypes),
        *find_incomplete_checkpoints(scanned, looked.dtypes),
        *find_token_disagreements(scanned),
        *find_order_faults(scanned),
        *looked.found,
        *find_series_outside_run(scanned),
    ]


def _known(manifest: Manifest) -> list[FoundFinding]:
    return [
        FoundFinding(k.code, k.severity, k.message, k.step, dict(k.evidence), f"manifest-{number}")
        for number, k in enumerate(manifest.findings)
    ]


def _all_indexed(files: Sequence[ReadFile], settings: Settings) -> bool:
    readable = (ReadableFile(f.path, f.uri, f.size, f.sha256, open_store(f.uri, settings)) for f in files)
    return all(is_indexed(file, settings.data / "store" / "indexes") for file in readable)


def _all_here(files: Sequence[ReadFile], settings: Settings) -> bool:
    return bool(files) and all(is_here(f.uri, settings) and f.state != "missing" for f in files)
