"""A release folder made ready to be sent: everything looked at and hashed here before a byte travels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from portal.errors import DataFault, Fault, ManifestRefused
from portal.exchange.digests import HashingSettings, PublishProgress, compare_digests, hash_waiting, plan_hashing
from portal.exchange.discover import discover
from portal.exchange.ingest import ingest
from portal.exchange.journal import Journal, one_publisher
from portal.exchange.places import Places
from portal.exchange.sign_release import Signature, sign_files
from portal.manifest import read_manifest_file
from portal.manifest.read import find_manifest
from portal.settings import Settings
from portal.signing.keys import SigningKey


@dataclass(frozen=True)
class PreparedFile:
    """A file of the release."""

    place: Path
    sha256: str
    size: int


@dataclass(frozen=True)
class PreparedRelease:
    """What is sent."""

    run: str
    manifest: str
    """The text of the manifest file."""
    name: str
    """Its file name."""
    files: dict[str, PreparedFile]
    """By path inside the release."""
    elsewhere: int
    """Files that the manifest names by their address elsewhere: they do not travel."""
    signature: Signature | None


def prepare(
    source: Path, settings: Settings, key: SigningKey | None = None, progress: PublishProgress | None = None
) -> PreparedRelease:
    """Check and hash the release that ``source`` (a folder or a manifest file) describes, and sign it with ``key``.

    Digests are kept in PORTAL_DATA: files that did not change are not read again the next time. Raises ManifestRefused
    with every fault, so that none is found only after everything was sent.
    """
    path = find_manifest(source)
    manifest = read_manifest_file(path, settings.max_manifest_bytes)
    text = path.read_bytes()
    found = discover(manifest, Places(path.absolute().parent))
    _refuse(source, found.faults)
    folder = settings.data / "sending"
    with one_publisher(folder, manifest.run), Journal(folder / manifest.run / "hashes.jsonl") as journal:
        digested, waiting = plan_hashing(found, {}, journal)
        hashing = HashingSettings(settings.hash_workers, settings.data, progress, lines=False)
        hash_waiting(digested, waiting, found, journal, hashing)
    _refuse(source, [*digested.faults, *compare_digests(found, digested), *ingest(manifest, found).faults])
    local = {f.path: f for f in found.files if f.local is not None}
    files = {
        name: PreparedFile(f.local, digested.sha256[f.uri], f.size or 0)
        for name, f in local.items()
        if f.local is not None
    }
    table = {name: f.sha256 for name, f in files.items()} | {path.name: hashlib.sha256(text).hexdigest()}
    unsigned = list(dict.fromkeys(f.path for f in found.files if f.local is None))
    signature = sign_files(manifest.run, table, unsigned, key) if key else None
    try:
        return PreparedRelease(manifest.run, text.decode(), path.name, files, len(unsigned), signature)
    except UnicodeDecodeError as error:
        raise DataFault(f"{path} is not UTF-8 text: {error}.", "Save it as UTF-8.") from None


def _refuse(source: Path, faults: list[Fault]) -> None:
    if faults:
        raise ManifestRefused(str(source), faults)
