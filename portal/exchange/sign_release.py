"""A publisher's signature over a published release, kept beside the portal's own and never in its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlmodel import Session

from portal.catalog.files import FileRow
from portal.catalog.record import recording
from portal.catalog.signatures import SignableRelease, find_signable, record_signature
from portal.database import Engine, open_session
from portal.errors import DataFault, IntegrityError
from portal.exchange.assemble import canonical_manifest
from portal.manifest import read_manifest_file
from portal.manifest.read import find_manifest
from portal.settings import Settings
from portal.signing import envelopes, models
from portal.signing.keys import PublicKey, SigningKey


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


@dataclass(frozen=True)
class Signature:
    """A publisher's signature on its way."""

    public_key: str
    """PEM."""
    bundle: str
    """The signed statement, as `sign_files` makes it."""


def sign_release(source: Path, run: str, settings: Settings, engine: Engine, key: SigningKey) -> SignedRelease:
    """Sign the current version of ``run``, published from ``source``, and keep the signature in the catalog.

    Raises IntegrityError when ``source`` is not what is published.
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
    values = _values(sign_files(run, table, unsigned, key), key.public, len(table), unsigned)
    with recording(engine) as session:
        new = record_signature(session, release, values)
    return SignedRelease(key.public.key_id, release.version, len(table), unsigned, new)


def sign_files(run: str, table: Mapping[str, str], unsigned: Sequence[str], key: SigningKey) -> Signature:
    """Sign the files of a release, ``table`` being path to sha256 with the manifest file among them.

    The paths are those below the release folder, so that `model_signing verify key FOLDER` takes the signature too.
    """
    about = {"release": {"run": run, "signed_by": "publisher", "not_signed": list(unsigned)}}
    statement = models.model_statement(run, table, about, ("release.sig", "SHA256SUMS"))
    bundle = json.dumps(envelopes.bundle(envelopes.sign(statement, key), key.public), indent=1)
    return Signature(key.public.pem, bundle)


def check_signature(
    signature: Signature | None, run: str, files: Mapping[str, str], manifest: bytes, name: str
) -> dict[str, Any] | None:
    """What is recorded of a signature that came with a release; ``files`` is path to sha256 of what was sent.

    Raises IntegrityError when the key did not sign this, or signed other files; DataFault when it is no signature.
    """
    if signature is None:
        return None
    key = PublicKey.read(signature.public_key, "The public key of the signature")
    statement = envelopes.read(signature.bundle.encode()).check(key)
    signed = models.signed_files(statement)
    about = statement["predicate"].get("release")
    if not isinstance(about, dict) or about.get("run") != run:
        raise IntegrityError(f"The signature is not one over a release of {run}.", "Sign this release.")
    expected = {**files, name: hashlib.sha256(manifest).hexdigest()}
    named = (path for path in {*signed, *expected} if not models.is_git(path))
    others = sorted(path for path in named if signed.get(path) != expected.get(path))
    if others:
        raise IntegrityError(
            f"The signature is over other files than were sent: {', '.join(others[:5])}{' …' if others[5:] else ''}.",
            "Sign again what you publish.",
            files=others[:1000],
        )
    unsigned = about.get("not_signed", [])
    if not isinstance(unsigned, list) or not all(isinstance(path, str) for path in unsigned):
        raise DataFault("The signature does not say which files it leaves out.", "Sign again.")
    return _values(signature, key, len(signed), unsigned)


def keep_signature(session: Session, release_id: int, version: int, values: dict[str, Any], by: str) -> None:
    """Record a checked signature with its release, in the caller's transaction; ``by`` is who sent it."""
    record_signature(session, SignableRelease(release_id, version, "", "", []), values, by)


def _values(signature: Signature, key: PublicKey, files: int, unsigned: Sequence[str]) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "public_key": key.pem,
        "bundle": signature.bundle,
        "files": files,
        "unsigned": list(unsigned),
    }


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
