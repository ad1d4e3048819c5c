"""Objects at ``s3://bucket/key`` on any S3-compatible server: boto3 signs and lists, obstore reads ranges.

obstore answers a range in a third of boto3's time (measured by ``python -m tests.bench remote``). Credentials come from
the usual AWS variables, files or roles; without any, requests are not signed. Keys are taken literally, never decoded.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from operator import attrgetter
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from portal.errors import BadRequest, FileMissing, PortalError, Unavailable
from portal.storage.ranged import Piece, RangedStore
from portal.storage.retries import PASSING_STATES, Passing, Patience, persist
from portal.storage.store import Meter, StoredFile

Result = TypeVar("Result")

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_STATE = re.compile(r"inner: Status \{\s+status: (\d{3}),")
"""Where obstore's errors say what the server answered; the words before it hold addresses and keys."""
_ETAG = re.compile(r'^"|"$')


@dataclass(frozen=True)
class S3Place:
    """Where the server is."""

    endpoint: str = ""
    """Empty means AWS."""
    public_endpoint: str = ""
    """The same server as clients of the portal reach it; empty where that is the endpoint itself."""
    region: str = "us-east-1"
    presign_s: int = 6 * 3600
    """Seconds a signed address is good for."""


class S3Store(RangedStore):
    """The `Store` of one S3-compatible server."""

    def __init__(self, place: S3Place, patience: Patience) -> None:
        super().__init__(patience)
        self._place = place
        self._readers: dict[str, Any] = {}
        self._opening = threading.Lock()

    def list_files(self, uri: str) -> Iterator[StoredFile]:
        """Every object below a prefix, by key; FileMissing when there is none. Folder markers are no files."""
        found = self._ask(uri, lambda: self._list(uri))
        if not found:
            raise FileMissing(
                f"{self.name(uri)} holds no object.", "Correct the bucket and prefix, or put the files there."
            )
        # Not every server keeps to the order of keys where some hold slashes.
        yield from sorted(found, key=attrgetter("path"))

    def public_url(self, uri: str, name: str = "") -> str | None:
        """An address signed for GET at the public endpoint, good for the configured time; asks nobody."""
        bucket, key = split(uri)
        asked = {"Bucket": bucket, "Key": key}
        if name:
            asked["ResponseContentDisposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        try:
            return str(self._signing.generate_presigned_url("get_object", asked, ExpiresIn=self._place.presign_s))
        except self._failures as error:
            told = self._told(uri, error)
            raise told if isinstance(told, PortalError) else self._refusal(uri, 403, type(error).__name__) from None

    def ask(self, uri: str, question: Callable[[Any], Result]) -> Result:
        """What a boto3 client answers to a question about ``uri``, asked again where that may help; failures in words."""

        def attempt() -> Result:
            try:
                return question(self._control)
            except self._failures as error:
                raise self._told(uri, error) from None

        return persist(self.patience, attempt, self._lost(uri))

    def name(self, uri: str) -> str:
        """The object's own name, and the server as clients of the portal reach it: bucket and endpoint may be nobody's
        business."""
        last = uri.rstrip("/").rpartition("/")[2][:300]
        public = urlsplit(self._place.public_endpoint)
        return f"{last} at {public.scheme}://{public.hostname}" if public.hostname else f"{last} on S3"

    def inside(self, uri: str) -> str:
        """The whole address and the endpoint."""
        return f"{uri[:500]} at {self._place.endpoint or 'AWS'}"

    def _list(self, uri: str) -> list[StoredFile]:
        bucket, folder = split(uri, folder=True)
        prefix = f"{folder.rstrip('/')}/" if folder.strip("/") else ""
        try:
            pages = self._control.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            held = [one for page in pages for one in page.get("Contents", ()) if not one["Key"].endswith("/")]
        except self._failures as error:
            raise self._told(uri, error) from None
        return [
            _stored(f"s3://{bucket}/{one['Key']}", one["Key"].removeprefix(prefix), one, one["Size"]) for one in held
        ]

    def _stat(self, uri: str, meter: Meter) -> StoredFile:
        bucket, key = split(uri)
        meter.count(requests=1)
        try:
            held = self._control.head_object(Bucket=bucket, Key=key)
        except self._failures as error:
            raise self._told(uri, error) from None
        return _stored(uri, key.rpartition("/")[2], held, held["ContentLength"])

    def _piece(self, uri: str, offset: int, length: int, meter: Meter) -> Piece:
        import obstore  # noqa: PLC0415 - commands that read no bucket need not load it
        from obstore import exceptions  # noqa: PLC0415

        bucket, key = split(uri)
        meter.count(requests=1)
        try:
            answer = obstore.get(self._reader(bucket), key, options={"range": (offset, offset + length)})
            data = bytes(answer.bytes())
        except (exceptions.BaseError, FileNotFoundError, PermissionError, OSError) as error:
            raise self._unread(uri, offset, length, error) from None
        meter.count(received=len(data))
        return Piece(data, answer.meta["size"], _ETAG.sub("", answer.meta.get("e_tag") or ""))

    @cached_property
    def _session(self) -> Any:
        import boto3  # noqa: PLC0415 - half a second that other stores need not spend

        return boto3.Session(region_name=self._place.region)

    @cached_property
    def _control(self) -> Any:
        return self._client(self._place.endpoint)

    @cached_property
    def _signing(self) -> Any:
        return self._client(self._place.public_endpoint or self._place.endpoint)

    def _client(self, endpoint: str) -> Any:
        from botocore import UNSIGNED  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        settings = Config(
            signature_version="s3v4" if self._session.get_credentials() else UNSIGNED,
            connect_timeout=self.patience.connect_s,
            read_timeout=self.patience.timeout_s,
            # Tries are counted in one place only.
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path" if endpoint else "auto"},
        )
        with self._opening:
            return self._session.client("s3", endpoint_url=endpoint or None, config=settings)

    def _reader(self, bucket: str) -> Any:
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
        from obstore.store import S3Store as Reader  # noqa: PLC0415

        found = self._readers.get(bucket)
        if found is None:
            signed = self._session.get_credentials() is not None
            place: dict[str, Any] = {"region": self._place.region, "skip_signature": not signed}
            if signed:
                place["credential_provider"] = Boto3CredentialProvider(self._session)
            if self._place.endpoint:
                place |= {"endpoint": self._place.endpoint, "virtual_hosted_style_request": False}
            limit = timedelta(seconds=self.patience.deadline_s(8 << 20))
            found = self._readers[bucket] = Reader(
                bucket,
                client_options={
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=self.patience.connect_s),
                    "read_timeout": timedelta(seconds=self.patience.timeout_s),
                    "timeout": limit,
                },
                retry_config={"max_retries": 0, "retry_timeout": limit},
                **place,
            )
        return found

    @cached_property
    def _failures(self) -> tuple[type[Exception], ...]:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        return BotoCoreError, ClientError

    def _told(self, uri: str, error: Exception) -> Exception:
        """What boto3 raised, in words; Passing for what may pass."""
        answer: dict[str, Any] = getattr(error, "response", {})
        state = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = str(answer.get("Error", {}).get("Code", ""))
        if state in PASSING_STATES:
            return Passing(f"it answered {state}")
        if state is not None:
            return self._refusal(uri, state, code)
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError"):
            return self._refusal(uri, 403, type(error).__name__)
        return Passing(f"the connection failed: {type(error).__name__}")

    def _unread(self, uri: str, offset: int, length: int, error: Exception) -> Exception:
        """What obstore raised, in words. Its messages hold whole answers, which may hold keys: none is passed on."""
        text, kind = str(error), type(error).__name__
        told = _STATE.search(text)
        state = int(told[1]) if told else None
        if state == 416:
            return self.cut_short(uri, offset, length)
        if isinstance(error, FileNotFoundError) or kind == "NotFoundError" or state == 404:
            return self._refusal(uri, 404, "NoSuchBucket" if "NoSuchBucket" in text else "")
        if kind in ("PermissionDeniedError", "UnauthenticatedError") or state in (401, 403):
            code = next(
                (c for c in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed") if c in text), ""
            )
            return self._refusal(uri, 403, code)
        if state is not None and state not in PASSING_STATES:
            return self._refusal(uri, state, "")
        return Passing(f"it answered {state}" if state else "the connection failed or was silent for too long")

    def _refusal(self, uri: str, state: int, code: str) -> PortalError:
        key = uri.removeprefix("s3://").partition("/")[2]
        if code == "NoSuchBucket" or (state == 404 and not key):
            return FileMissing(
                f"The bucket of {self.name(uri)} is not there." if key else "The bucket is not there.",
                "Correct the bucket, or PORTAL_S3_ENDPOINT; the portal's log names both.",
            )
        if state == 404:
            return FileMissing(f"{self.name(uri)} is not there.", "Restore it, or correct its address in the manifest.")
        if code == "RequestTimeTooSkewed":
            return Unavailable(
                f"{self.name(uri)}: the server's clock and this machine's differ too much.", "Set this machine's clock."
            )
        if state in (400, 401, 403):
            why = {
                "InvalidAccessKeyId": "the server does not know the access key",
                "SignatureDoesNotMatch": "the secret key is wrong",
                "NoCredentialsError": "there are no credentials",
                "PartialCredentialsError": "the credentials are incomplete",
            }.get(code, f"the server answered {state}")
            return Unavailable(
                f"{self.name(uri)} may not be read: {why}.",
                "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may read.",
            )
        return Unavailable(f"{self.name(uri)}: the server answered {state}.", "Look at the server's own log.")


def split(uri: str, folder: bool = False) -> tuple[str, str]:
    """Bucket and key of an ``s3://`` URI; BadRequest where it names none."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not _BUCKET.fullmatch(bucket) or (not key and not folder) or "\0" in key:
        raise BadRequest(f"{uri[:200]!r} is not the address of an object.", "Write s3://bucket/key.")
    return bucket, key


def _stored(uri: str, path: str, held: dict[str, Any], size: int) -> StoredFile:
    changed = held["LastModified"]
    return StoredFile(
        uri, path, size, int(changed.timestamp()) * 1_000_000_000, _ETAG.sub("", str(held.get("ETag", "")))
    )
