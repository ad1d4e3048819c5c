"""The portal's own store: in a folder and in a bucket, whole and verified or not there at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from blake3 import blake3

from portal.errors import (
    BadRequest,
    FileMissing,
    IntegrityError,
    OffsetMismatch,
    StorageFull,
    TooLarge,
    Unavailable,
    UploadBusy,
)
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.blobs import BlobStore, folder_of, open_blobs
from portal.storage.hashing import BLOCK_SIZE
from portal.storage.staging import FORGOTTEN_S
from tests.seaweed import BUCKET, SeaweedServer

SMALL = b"a few bytes"
LARGE = bytes(range(251)) * ((BLOCK_SIZE * 2 + 3_000_000) // 251)
"""More than two blocks, and more than two parts of a multipart upload."""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("seaweed"))])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "folder":
        return Settings(data=tmp_path / "data")
    server: SeaweedServer = request.getfixturevalue("s3_server")
    return Settings(
        data=tmp_path / "data",
        storage_url=f"s3://{BUCKET}/{uuid4().hex}",
        s3_endpoint=server.endpoint,
        s3_buckets="another",
        remote_timeout=10,
        remote_attempts=2,
    )


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return open_blobs(settings)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    return path


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_a_file_put_in_is_read_back_verified(settings: Settings, blobs: BlobStore, file: Path, data: bytes) -> None:
    file.write_bytes(data)
    assert blobs.has(sha(data)) is None
    assert blobs.digest(sha(data)) is None
    digest = blobs.put_file(file, sha(data))
    assert (digest.sha256, digest.size) == (sha(data), len(data))
    assert digest.blocks == b"".join(
        blake3(data[at : at + BLOCK_SIZE]).digest() for at in range(0, len(data), BLOCK_SIZE)
    )
    assert blobs.has(sha(data)) == len(data)
    again = open_blobs(settings).digest(sha(data))
    assert again is not None
    assert (again.size, again.blocks) == (digest.size, digest.blocks)
    uri = blobs.location(sha(data))
    assert open_store(uri, settings).read_range(uri, 0, len(data)) == data


def test_nothing_is_told_of_what_is_looked_for_and_not_there(
    blobs: BlobStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert blobs.has("ab" * 32) is None
    assert blobs.modified_ns("ab" * 32) is None
    assert caplog.messages == []


def test_bytes_under_a_wrong_name_are_never_there(blobs: BlobStore, file: Path) -> None:
    for data in (SMALL, LARGE):
        file.write_bytes(data)
        with pytest.raises(IntegrityError, match="announced"):
            blobs.put_file(file, sha(b"other"))
        upload = blobs.begin(sha(b"other"), len(data))
        upload.write_at(0, [data])
        with pytest.raises(IntegrityError, match="announced"):
            upload.finish()
        assert upload.received == 0
    assert blobs.has(sha(b"other")) is None


def test_an_upload_goes_on_where_it_was_interrupted(settings: Settings, blobs: BlobStore) -> None:
    name, size = sha(LARGE), len(LARGE)

    def until(end: int) -> Iterator[bytes]:
        yield LARGE[:end]
        raise ConnectionError("the client is gone")

    with pytest.raises(ConnectionError):
        blobs.begin(name, size).write_at(0, until(5_000_001))
    # As after a restart: nothing is remembered but what lies on the disk.
    upload = open_blobs(settings).begin(name, size)
    assert upload.received == 5_000_001
    with pytest.raises(OffsetMismatch) as wrong:
        upload.write_at(4_000_000, [b"x"])
    assert wrong.value.extra == {"received": 5_000_001}
    with pytest.raises(OffsetMismatch):
        upload.finish()
    assert blobs.has(name) is None
    pieces = (LARGE[at : at + (1 << 20)] for at in range(5_000_001, size, 1 << 20))
    assert upload.write_at(5_000_001, pieces) == size
    assert blobs.has(name) is None
    digest = upload.finish()
    assert blobs.has(name) == size
    assert digest.sha256 == name
    # Asked again, e.g. because the answer was lost.
    assert upload.finish().blocks == digest.blocks
    assert upload.received == size
    assert not list((settings.data / "store" / "uploads").iterdir())


def test_what_is_there_need_not_be_sent(blobs: BlobStore, file: Path) -> None:
    blobs.put_file(file, sha(LARGE))
    upload = blobs.begin(sha(LARGE), len(LARGE))
    assert upload.received == len(LARGE)
    with pytest.raises(OffsetMismatch):
        upload.write_at(0, [b"x"])
    assert upload.finish().size == len(LARGE)
    other = blobs.begin(sha(LARGE), 7)
    assert other.received == 0


def test_more_than_announced_is_refused_and_nothing_of_it_kept(blobs: BlobStore) -> None:
    upload = blobs.begin(sha(SMALL), len(SMALL))
    with pytest.raises(TooLarge):
        upload.write_at(0, [SMALL, b"x"])
    assert upload.received == len(SMALL)
    upload.abandon()
    assert upload.received == 0


def test_two_requests_cannot_write_at_once(blobs: BlobStore) -> None:
    first = blobs.begin(sha(SMALL), len(SMALL))

    def meanwhile() -> Iterator[bytes]:
        with pytest.raises(UploadBusy):
            blobs.begin(sha(SMALL), len(SMALL)).write_at(0, [b"x"])
        yield SMALL

    first.write_at(0, meanwhile())
    assert first.finish().size == len(SMALL)


def test_many_putting_the_same_file_all_succeed(blobs: BlobStore, file: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: blobs.put_file(file, sha(LARGE)).sha256, range(4)))
    assert done == [sha(LARGE)] * 4
    assert blobs.has(sha(LARGE)) == len(LARGE)


@pytest.mark.parametrize("name", ["", "a" * 63, "A" * 64, "../" + "a" * 61, "a" * 64 + "\n"])
def test_what_is_no_sha256_is_refused(blobs: BlobStore, name: str) -> None:
    for ask in (blobs.has, blobs.location, lambda n: blobs.begin(n, 1)):
        with pytest.raises(BadRequest):
            ask(name)


def test_old_uploads_are_forgotten(settings: Settings, blobs: BlobStore) -> None:
    old, new = blobs.begin(sha(b"old"), 9), blobs.begin(sha(b"new"), 9)
    old.write_at(0, [b"x"])
    left = next((settings.data / "store" / "uploads").iterdir())
    os.utime(left, (0, left.stat().st_mtime - FORGOTTEN_S - 60))
    new.write_at(0, [b"x"])
    assert (old.received, new.received) == (0, 1)


def test_a_full_disk_is_told(blobs: BlobStore) -> None:
    def full() -> Iterator[bytes]:
        yield b"abc"
        raise OSError(28, "No space left on device")

    upload = blobs.begin(sha(SMALL), len(SMALL))
    with pytest.raises(StorageFull):
        upload.write_at(0, full())
    assert upload.received == 3


def test_blobs_lie_in_the_folder_that_is_named(tmp_path: Path, file: Path) -> None:
    for url in (str(tmp_path / "own"), f"file://{tmp_path}/own"):
        settings = Settings(data=tmp_path / "data", storage_url=url)
        assert folder_of(settings) == tmp_path / "own"
    open_blobs(settings).put_file(file, sha(LARGE))
    held = tmp_path / "own" / "sha256" / sha(LARGE)[:2] / sha(LARGE)
    assert held.read_bytes() == LARGE
    # Nothing may write to it by mistake.
    assert held.stat().st_mode & 0o222 == 0
    assert not list((tmp_path / "own" / "incoming").iterdir())


@pytest.mark.parametrize("url", ["relative/folder", "ftp://host/x", "s3://", "s3://BAD BUCKET/x"])
def test_what_is_no_place_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises((BadRequest, Unavailable)):
        open_blobs(Settings(data=tmp_path, storage_url=url))


@pytest.mark.xdist_group("seaweed")
def test_a_bucket_that_is_not_there_is_no_empty_one(tmp_path: Path, s3_server: SeaweedServer, file: Path) -> None:
    settings = Settings(data=tmp_path / "data", storage_url="s3://absent-bucket/x", s3_endpoint=s3_server.endpoint)
    for ask in (open_blobs(settings).has, lambda name: open_blobs(settings).put_file(file, name)):
        with pytest.raises(FileMissing, match="The bucket is not there"):
            ask(sha(LARGE))


@pytest.mark.xdist_group("seaweed")
def test_signed_addresses_name_the_file(tmp_path: Path, s3_server: SeaweedServer, file: Path) -> None:
    settings = Settings(data=tmp_path / "data", storage_url=f"s3://{BUCKET}", s3_endpoint=s3_server.endpoint)
    blobs = open_blobs(settings)
    blobs.put_file(file, sha(LARGE))
    address = blobs.public_url(sha(LARGE), "über 1.bin")
    assert address is not None
    answer = httpx.get(address, headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (206, LARGE[:10])
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%BCber%201.bin"
