"""What a backup says of itself: one document that counts and digests everything in it, written last, signed where a key is.

The document is JSON in canonical form, so that any other bytes at all are no longer this document. Everything it names
lies beside it by sha256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from portal.catalog.tables import Table
from portal.errors import DataFault, IntegrityError
from portal.signing import envelopes
from portal.signing.envelopes import STATEMENT, Document
from portal.signing.keys import PublicKey, SigningKey

FORMAT = "llm360-portal/backup/1"
PREDICATE = "urn:llm360-portal:backup:1"


@dataclass(frozen=True)
class Piece:
    """Lines of a list, compressed with zstd, in one object."""

    sha256: str
    size: int
    """Bytes as they lie in the backup."""
    lines: int
    bytes: int
    """Bytes of the lines."""


@dataclass(frozen=True)
class Listing:
    """Lines in order, cut in pieces."""

    lines: int
    sha256: str
    """Over all lines, uncompressed."""
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class TablePart:
    """One table of the catalog."""

    table: Table
    next_id: int | None
    rows: Listing


@dataclass(frozen=True)
class Lost:
    """Something that should be in the backup and could not be read where it was made."""

    what: str
    why: str


@dataclass(kw_only=True)
class Contents:
    """What went from a portal into a backup, or from a backup into a portal."""

    id: str
    schema: str = ""
    tables: dict[str, int] = field(default_factory=dict)
    """Rows by table."""
    blobs: int = 0
    blob_bytes: int = 0
    files: int = 0
    file_bytes: int = 0
    elsewhere: int = 0
    """Places of files in other folders of the machine, which no backup holds."""
    lost: list[Lost] = field(default_factory=list)
    """What should be in the backup and could not be read when it was made."""
    signed_by: str | None = None
    """Id of the key."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Manifest:
    """One backup."""

    id: str
    """When it began, and six letters."""
    made_at: str
    portal: str
    """Version of the portal that made it."""
    schema: str
    database: str
    tables: tuple[TablePart, ...]
    blobs: Listing
    """``[sha256, size, modified_ns]`` of everything in the portal's own store, by sha256."""
    blob_bytes: int
    files: Listing
    """``[path below PORTAL_DATA, sha256, size]``, by path."""
    file_bytes: int
    elsewhere: int = 0
    """Places of files in other folders of the machine, which no backup holds."""
    lost: tuple[Lost, ...] = ()
    signing_key: str = ""
    """sha256 of the portal's private key, where it was asked for."""


@dataclass(frozen=True)
class ReadDocument:
    """A document that is whole."""

    manifest: Manifest
    key: PublicKey | None = field(default=None)
    """Of the portal that signed it; whether that is the right one, nothing in a backup can tell."""


def write_document(manifest: Manifest, key: SigningKey | None) -> bytes:
    """The document's bytes."""
    body = asdict(manifest)
    sha256 = hashlib.sha256(_canonical(body)).hexdigest()
    signed = envelopes.sign(_statement(manifest.id, sha256), key) if key else None
    document = {
        "format": FORMAT,
        "manifest": body,
        "sha256": sha256,
        "signature": signed,
        "public_key": key.public.pem if key else None,
    }
    return _canonical(document) + b"\n"


def read_document(data: bytes, where: str, keys: Sequence[PublicKey] = ()) -> ReadDocument:
    """What ``data`` says; with ``keys`` one of them must have signed it.

    DataFault where it is none of this version's, IntegrityError where it was altered or signed by nobody of ``keys``.
    """
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise DataFault(
                f"{where} is of another format: {str(document['format'])[:100]!r}.",
                "Read it with the version of the portal that made it.",
            )
        body, sha256 = document["manifest"], document["sha256"]
        whole = _canonical(document) + b"\n" == data and hashlib.sha256(_canonical(body)).hexdigest() == sha256
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise IntegrityError(f"{where} is damaged: it is not what was written.", "Take another backup.")
    try:
        manifest = _manifest(body)
    except (KeyError, TypeError, ValueError):
        raise DataFault(f"{where} is not understood.", "Read it with the version of the portal that made it.") from None
    return ReadDocument(manifest, _check_signature(document, manifest.id, where, keys))


def _check_signature(document: Document, id: str, where: str, keys: Sequence[PublicKey]) -> PublicKey | None:
    signature, pem = document["signature"], document["public_key"]
    if signature is None:
        if keys:
            raise IntegrityError(f"{where} is not signed, and a key was given.", "Leave --key out, if you trust it.")
        return None
    own = PublicKey.read(str(pem), f"The key in {where}")
    told = f"{where}: the signature"
    by = next((key for key in keys if key.key_id == own.key_id), own if not keys else keys[0])
    try:
        statement = envelopes.read(json.dumps(signature)).check(by)
    except (IntegrityError, DataFault) as error:
        raise IntegrityError(f"{told} does not fit. {error.message}", error.remedy) from None
    if statement != _statement(id, document["sha256"]):
        raise IntegrityError(f"{told} is that of another backup.", "Take another backup.")
    return by


def _statement(id: str, sha256: str) -> Document:
    subject = [{"name": id, "digest": {"sha256": sha256}}]
    return {"_type": STATEMENT, "subject": subject, "predicateType": PREDICATE, "predicate": {}}


def _manifest(body: dict[str, Any]) -> Manifest:
    tables = tuple(
        TablePart(
            Table(
                t["table"]["name"],
                tuple((str(n), str(k)) for n, k in t["table"]["columns"]),
                tuple(t["table"]["key"]),
            ),
            t["next_id"],
            _listing(t["rows"]),
        )
        for t in body["tables"]
    )
    known = {**body, "tables": tables, "blobs": _listing(body["blobs"]), "files": _listing(body["files"])}
    return Manifest(**{**known, "lost": tuple(Lost(**one) for one in body["lost"])})


def _listing(body: dict[str, Any]) -> Listing:
    return Listing(int(body["lines"]), str(body["sha256"]), tuple(Piece(**piece) for piece in body["pieces"]))


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
