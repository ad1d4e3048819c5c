"""The portal's own store: a file put there, read back and taken away again; and what clients outside get of it."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx

from portal.doctor.verdicts import Verdict, fail, ok, warn
from portal.errors import PortalError
from portal.settings import Settings
from portal.storage import open_remote, open_store
from portal.storage.blobs import BlobStore, folder_of, open_blobs
from portal.storage.s3 import S3Store, split

PART = "store"
WAIT_S = 1.5
ORIGIN = "https://elsewhere.example"
SIZE = 1000
OLD = timedelta(days=1)
"""No upload takes so long."""


def check_store(settings: Settings) -> Iterator[Verdict]:
    """Write, read back, fetch as a client would, remove."""
    settings = hurried(settings)
    blobs = open_blobs(settings)
    if not settings.data.is_dir():
        # The folder's own check says so; looking must not make it.
        return
    if settings.storage_url and not settings.storage_url.startswith("s3://") and not folder_of(settings).exists():
        yield fail(PART, f"{settings.storage_url} is not there.", "Make it, or correct PORTAL_STORAGE_URL.")
        return
    data = secrets.token_bytes(SIZE)
    sha256 = hashlib.sha256(data).hexdigest()
    uri = blobs.location(sha256)
    with tempfile.TemporaryDirectory(prefix="portal-doctor-") as folder:
        path = Path(folder) / "test"
        path.write_bytes(data)
        blobs.put_file(path, sha256)
    try:
        found = open_store(uri, settings).read_range(uri, 0, SIZE)
        if found != data:
            yield fail(PART, "A test file came back with other bytes.", "Check the disk or the S3 server itself.")
            return
        yield ok(PART, f"A test file was written to {_shown(settings)}, read back and removed.")
        if settings.storage_url.startswith("s3://"):
            yield from _outside(blobs, sha256, data)
    finally:
        # Its name is random, so nobody can have come to need it.
        blobs.remove(sha256)


def check_parts(settings: Settings) -> Iterator[Verdict]:
    """Uploads in parts that were neither completed nor aborted: they take room and are in no list."""
    part = "uploads in parts"
    if not settings.storage_url.startswith("s3://"):
        return
    settings = hurried(settings)
    bucket, prefix = split(settings.storage_url, folder=True)
    store = cast(S3Store, open_remote(f"s3://{bucket}/x", settings))
    try:
        found: dict[str, Any] = store.ask(
            f"s3://{bucket}",
            lambda client: client.list_multipart_uploads(Bucket=bucket, Prefix=prefix, MaxUploads=1000),
        )
    except PortalError as error:
        yield warn(part, f"The server does not list them: {error.message}", "Let the bucket expire them by a rule.")
        return
    before = datetime.now(UTC) - OLD
    old = [upload for upload in found.get("Uploads", ()) if upload["Initiated"] < before]
    if old:
        yield warn(
            part,
            f"{len(old):,} uploads to the bucket were begun more than a day ago and never ended; they take room.",
            "Let a lifecycle rule of the bucket abort incomplete uploads after a day.",
        )
    else:
        yield ok(part, "None was left behind in the bucket.")


def check_public_endpoint(settings: Settings) -> Iterator[Verdict]:
    """Where clients are sent for files that lie on S3; of a store that is a bucket, `check_store` fetches one."""
    endpoint = settings.s3_public_endpoint or settings.s3_endpoint
    if not endpoint or settings.storage_url.startswith("s3://") or settings.remote_files == "proxy":
        return
    part = "public store"
    try:
        with httpx.Client(timeout=WAIT_S, trust_env=False) as client:
            client.get(endpoint)
    except httpx.HTTPError as error:
        yield fail(
            part, f"{endpoint} does not answer ({type(error).__name__}): clients are sent there for files.", _PUBLIC
        )
    else:
        yield ok(part, f"{endpoint} answers.")


def hurried(settings: Settings) -> Settings:
    """The same settings with little patience."""
    return settings.model_copy(update={"remote_timeout": WAIT_S, "remote_attempts": 1})


def _outside(blobs: BlobStore, sha256: str, data: bytes) -> Iterator[Verdict]:
    """What a client gets at the signed address."""
    part, address = "public store", blobs.public_url(sha256, "doctor.bin") or ""
    host = urlsplit(address).netloc
    try:
        with httpx.Client(timeout=WAIT_S, trust_env=False) as client:
            answer = client.get(address, headers={"Origin": ORIGIN})
    except httpx.HTTPError as error:
        yield fail(
            part,
            f"{host} does not answer ({type(error).__name__}): clients are sent there for files.",
            _PUBLIC,
        )
        return
    if answer.status_code != 200 or answer.content != data:
        yield fail(
            part,
            f"A signed address at {host} answers {answer.status_code} instead of the file.",
            "PORTAL_S3_PUBLIC_ENDPOINT must be the same server under the name clients use, and keep the Host header.",
        )
        return
    yield ok(part, f"A signed address at {host} gives the file.")
    if answer.headers.get("access-control-allow-origin") not in ("*", ORIGIN):
        yield warn(
            part,
            "Pages of other sites cannot read files there: the bucket has no CORS rule for them.",
            "Allow GET and HEAD from any origin in the bucket's CORS rules, if such pages are wanted.",
        )


def _shown(settings: Settings) -> str:
    return settings.storage_url or "the folder in PORTAL_DATA"


_PUBLIC = "Correct PORTAL_S3_PUBLIC_ENDPOINT, or set PORTAL_REMOTE_FILES=proxy."
