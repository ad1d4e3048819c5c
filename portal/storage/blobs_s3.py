"""Blobs below a prefix of a bucket: hashed while their parts go up, completed only when the hash is the right one."""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from blake3 import blake3

from portal.errors import FileMissing
from portal.settings import Settings
from portal.storage import open_remote
from portal.storage.blobs import HeldBlob, blocks_key_of, differs, is_name, key_of
from portal.storage.hashing import BLOCK_ALGORITHM, BLOCK_SIZE, FileDigest, hash_file
from portal.storage.s3 import S3Store, split
from portal.storage.staging import StagedUpload

PART = 8 << 20
MOST_PARTS = 9_000
"""S3 takes 10,000."""
PARALLEL_PARTS = 4

Result = TypeVar("Result")


class BucketBlobs:
    """The `BlobStore` of a bucket; nothing in it is ever overwritten (`If-None-Match: *`)."""

    def __init__(self, url: str, settings: Settings, staging: Path) -> None:
        """``url`` is ``s3://bucket[/prefix]``; the keys are those of the S3 store."""
        self._bucket, prefix = split(url, folder=True)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._store = cast(S3Store, open_remote(f"s3://{self._bucket}/x", settings))
        self._staging = staging

    def has(self, sha256: str) -> int | None:
        """Bytes of the blob, or None when it is not here."""
        found = self._store.find(self.location(sha256))
        if found is None:
            # A bucket that is not there must be told, not taken for an empty one.
            self._ask("", lambda client: client.head_bucket(Bucket=self._bucket))
            return None
        return found.size

    def digest(self, sha256: str) -> FileDigest | None:
        """Its digests, or None when it is not here."""
        size = self.has(sha256)
        if size is None:
            return None
        blocks = -(-size // BLOCK_SIZE) * 32
        try:
            known = self._store.read_range(f"s3://{self._bucket}/{self._prefix}{blocks_key_of(sha256)}", 0, blocks)
        except FileMissing:
            return self._rehash(sha256, size)
        return FileDigest(sha256, size, BLOCK_SIZE, known, BLOCK_ALGORITHM)

    def put_file(self, path: Path, sha256: str) -> FileDigest:
        """Copy a file in, hashed on the way; see `BlobStore`."""
        return self.digest(sha256) or self.take(path, sha256, str(path))

    def begin(self, sha256: str, size: int) -> StagedUpload:
        """A new upload, or the one that was interrupted."""
        return StagedUpload(self, self._staging, sha256, size)

    def location(self, sha256: str) -> str:
        """Its ``s3://`` URI."""
        return f"s3://{self._bucket}/{self._prefix}{key_of(sha256)}"

    def public_url(self, sha256: str, name: str = "") -> str | None:
        """A signed address at the public endpoint."""
        return self._store.public_url(self.location(sha256), name)

    def list_held(self) -> Iterator[HeldBlob]:
        """Every blob in its place."""
        try:
            found = list(self._store.list_files(f"s3://{self._bucket}/{self._prefix}sha256/"))
        except FileMissing:
            self._ask("", lambda client: client.head_bucket(Bucket=self._bucket))
            return
        for stored in found:
            name = stored.uri.rpartition("/")[2]
            if is_name(name) and stored.size is not None and stored.modified_ns is not None:
                yield HeldBlob(name, stored.size, stored.modified_ns)

    def modified_ns(self, sha256: str) -> int | None:
        """When the blob came, or None when it is not here."""
        found = self._store.find(self.location(sha256))
        return None if found is None else found.modified_ns

    def remove(self, sha256: str) -> None:
        """Take a blob and its digests away; the blob first, as one without digests is hashed again."""
        for key in (key_of(sha256), blocks_key_of(sha256)):
            whole = self._prefix + key
            self._ask(whole, lambda client, key=whole: client.delete_object(Bucket=self._bucket, Key=key))  # type: ignore[misc]

    def take(
        self,
        path: Path,
        sha256: str,
        shown: str,
        passed: FileDigest | None = None,  # noqa: ARG002 - it is read to be sent, and hashed again on the way
    ) -> FileDigest:
        """Send a file, hashed on the way; see `Keeper`."""
        key, size = self._prefix + key_of(sha256), path.stat().st_size
        if size <= PART:
            data = path.read_bytes()
            digest = FileDigest(
                hashlib.sha256(data).hexdigest(), size, BLOCK_SIZE, blake3(data).digest() if data else b""
            )
            if digest.sha256 != sha256:
                raise differs(shown, sha256, digest.sha256)
            self._put(self._prefix + blocks_key_of(sha256), digest.blocks)
            self._put(key, data)
            return digest
        with _Parts(self._ask, self._bucket, key, size) as parts:
            digest = hash_file(path, [parts])
            if digest.sha256 != sha256:
                raise differs(shown, sha256, digest.sha256)
            sent = parts.sent()
            self._put(self._prefix + blocks_key_of(sha256), digest.blocks)
            parts.complete(sent)
        return digest

    def _put(self, key: str, data: bytes) -> None:
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        self._ask(
            key,
            lambda client: _unless_there(
                lambda: client.put_object(
                    Bucket=self._bucket, Key=key, Body=data, ChecksumSHA256=checksum, IfNoneMatch="*"
                )
            ),
        )

    def _rehash(self, sha256: str, size: int) -> FileDigest:
        """Of a blob that other hands put there."""
        uri, digest, blocks = self.location(sha256), hashlib.sha256(), bytearray()
        for offset in range(0, size, BLOCK_SIZE):
            data = self._store.read_range(uri, offset, min(BLOCK_SIZE, size - offset))
            digest.update(data)
            blocks += blake3(data).digest()
        if digest.hexdigest() != sha256:
            raise differs(uri, sha256, digest.hexdigest())
        self._put(self._prefix + blocks_key_of(sha256), bytes(blocks))
        return FileDigest(sha256, size, BLOCK_SIZE, bytes(blocks))

    def _ask(self, key: str, question: Callable[[Any], Result]) -> Result:
        return self._store.ask(f"s3://{self._bucket}/{key}", question)


class _Parts:
    """A multipart upload fed by the hashing of its file; aborted unless it is completed."""

    def __init__(self, ask: Callable[[str, Callable[[Any], Any]], Any], bucket: str, key: str, size: int) -> None:
        self._ask = ask
        self._target = {"Bucket": bucket, "Key": key}
        self._part_size = max(PART, -(-size // MOST_PARTS // PART) * PART)
        self._held = bytearray()
        self._done: list[dict[str, Any]] = []
        self._sending: deque[Future[dict[str, Any]]] = deque()
        self._completed = False

    def __enter__(self) -> _Parts:
        begun = self._ask(self._target["Key"], lambda client: client.create_multipart_upload(**self._target))
        self._upload = {**self._target, "UploadId": begun["UploadId"]}
        self._pool = ThreadPoolExecutor(PARALLEL_PARTS, thread_name_prefix="parts")
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        if not self._completed:
            with suppress(Exception):
                # What failed is told already; parts of an upload that is not aborted cost room, no more.
                self._ask(self._target["Key"], lambda client: client.abort_multipart_upload(**self._upload))

    def feed(self, data: memoryview) -> None:
        """Take the next bytes of the file."""
        self._held += data
        if len(self._held) >= self._part_size:
            self._send()

    def sent(self) -> list[dict[str, Any]]:
        """Every part's number and ETag, once all are there."""
        if self._held:
            self._send()
        while self._sending:
            self._done.append(self._sending.popleft().result())
        return self._done

    def complete(self, parts: list[dict[str, Any]]) -> None:
        """Make the object visible, unless it is there already."""

        def question(client: Any) -> None:
            self._completed = _unless_there(
                lambda: client.complete_multipart_upload(
                    **self._upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
                ),
                lambda: client.head_object(**self._target),
            )

        self._ask(self._target["Key"], question)

    def _send(self) -> None:
        while len(self._sending) >= PARALLEL_PARTS:
            # No more in memory than is on its way.
            self._done.append(self._sending.popleft().result())
        body, number = bytes(self._held), len(self._done) + len(self._sending) + 1
        self._held.clear()
        self._sending.append(self._pool.submit(self._send_part, body, number))

    def _send_part(self, body: bytes, number: int) -> dict[str, Any]:
        answer = self._ask(
            self._target["Key"], lambda client: client.upload_part(**self._upload, PartNumber=number, Body=body)
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}


def _unless_there(write: Callable[[], Any], is_there: Callable[[], Any] | None = None) -> bool:
    """Whether this write did it. One that somebody else was faster with, or whose answer was lost, is no failure."""
    from botocore.exceptions import ClientError  # noqa: PLC0415

    try:
        write()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code")
        if code in ("PreconditionFailed", "ConditionalRequestConflict", "412"):
            return False
        if code != "NoSuchUpload" or is_there is None:
            raise
        is_there()
    return True
