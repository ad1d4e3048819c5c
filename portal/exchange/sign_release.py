"""A publisher's signature over a published release, kept beside the portal's own and never in its place."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from portal.catalog.files import FileRow
from portal.catalog.record import recording
from portal.catalog.signatures import SignableRelease, find_signable, record_signature
from portal.database import Engine, open_session
from portal.errors import IntegrityError
from portal.exchange.assemble import canonical_manifest
from portal.manifest import read_manifest_file
from portal.manifest.read import find_manifest
from portal.settings import Settings
from portal.signing import envelopes, models
from portal.signing.keys import SigningKey


@dataclass(frozen=True)
class SignedRelease:
    """What `sign_release` did."""

    key_id: str
    version: int
    files: int
    unsigned: list[str]
    """Paths of released files that the signature says nothing of."""
    new: bool
    """False where this key had signed this version before."""


def sign_release(source: Path, run: str, settings: Settings, engine: Engine, key: SigningKey) -> SignedRelease:
    """Sign the current version of ``run``, published from ``source``, and keep the signature in the catalog.

    It covers the manifest file and every hashed file below its folder, by the paths they have there, so that
    `model_signing verify key FOLDER` takes it too. Raises IntegrityError when ``source`` is not what is published.
    """
    path = find_manifest(source)
    manifest = read_manifest_file(path, settings.max_manifest_bytes, run)
    with open_session(engine) as session:
        release = find_signable(session, run)
    if canonical_manifest(manifest) != release.manifest:
        raise IntegrityError(
            f"{path} is not the manifest of version {release.version} of {run}.", "Publish it again, then sign."
        )
    table, unsigned = _table(release, path.absolute().parent)
    table[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {"release": {"run": run, "signed_by": "publisher", "not_signed": unsigned}}
    statement = models.model_statement(run, table, about, ("release.sig", "SHA256SUMS"))
    bundle = json.dumps(envelopes.bundle(envelopes.sign(statement, key), key.public), indent=1)
    values = {
        "key_id": key.public.key_id,
        "public_key": key.public.pem,
        "bundle": bundle,
        "files": len(table),
        "unsigned": unsigned,
    }
    with recording(engine) as session:
        new = record_signature(session, release, values)
    return SignedRelease(key.public.key_id, release.version, len(table), unsigned, new)


def _table(release: SignableRelease, root: Path) -> tuple[dict[str, str], list[str]]:
    """Path below ``root`` to sha256, and the paths of files that lie elsewhere or were not hashed."""
    table: dict[str, str] = {}
    unsigned: list[str] = []
    for file in release.files:
        path = _below(file, root)
        if path is None or file.sha256 is None:
            unsigned.append(file.path)
        else:
            table[path] = file.sha256
    return table, list(dict.fromkeys(unsigned))


def _below(file: FileRow, root: Path) -> str | None:
    local = file.local
    if local is None:
        return None
    place = Path(unquote(urlsplit(local.uri).path))
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else None
