"""Digests: known values, every block, changes meanwhile, many files at once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3

from portal.errors import DataFault, FileMissing, IntegrityError
from portal.storage.hashing import BLOCK_SIZE, READ_SIZE, FileDigest, HashJob, hash_file, hash_files, usable_cores


class Collector:
    """Keeps what passes by."""

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: memoryview) -> None:
        self.held += bytes(data)


@pytest.mark.parametrize(
    "size", [0, 1, READ_SIZE - 1, READ_SIZE, READ_SIZE + 1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 2 * BLOCK_SIZE]
)
def test_the_file_and_each_block_have_their_digest(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    file = tmp_path / "file"
    file.write_bytes(content)
    observer, passed = Collector(), []
    digest = hash_file(file, [observer], passed.append)
    blocks = [content[at : at + BLOCK_SIZE] for at in range(0, size, BLOCK_SIZE)]
    assert digest == FileDigest(
        hashlib.sha256(content).hexdigest(),
        size,
        BLOCK_SIZE,
        b"".join(blake3(block).digest() for block in blocks),
        "blake3",
        file.stat().st_mtime_ns,
    )
    assert observer.held == content
    assert sum(passed) == size


def test_known_values(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    digest = hash_file(tmp_path / "abc")
    # FIPS 180-2, appendix B.1, and the BLAKE3 team's test vector for "abc".
    assert digest.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest.blocks.hex() == "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (READ_SIZE + 10))

    class Writer:
        def feed(self, _: memoryview) -> None:
            with file.open("ab") as stream:
                stream.write(b"more")

    with pytest.raises(IntegrityError, match="changed while it was read"):
        hash_file(file, [Writer()])


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        hash_file(tmp_path / "absent")
    with pytest.raises(DataFault):
        hash_file(tmp_path)


def test_many_files_are_hashed_and_a_lost_one_does_not_stop_the_others(tmp_path: Path) -> None:
    jobs = []
    for k in range(50):
        file = tmp_path / str(k)
        file.write_bytes(bytes([k]) * k * 1000)
        jobs.append(HashJob(str(k), file, k * 1000))
    jobs.append(HashJob("lost", tmp_path / "lost", 5))
    passed: list[int] = []
    found = {job.key: digest for job, digest in hash_files(jobs, 3, passed.append)}
    assert isinstance(found.pop("lost"), FileMissing)
    assert {k: d.sha256 for k, d in found.items() if isinstance(d, FileDigest)} == {
        str(k): hashlib.sha256(bytes([k]) * k * 1000).hexdigest() for k in range(50)
    }
    assert sum(passed) == sum(k * 1000 for k in range(50))


def test_leaving_early_stops_the_threads(tmp_path: Path) -> None:
    small, big = tmp_path / "small", tmp_path / "big"
    small.write_bytes(b"x")
    with big.open("wb") as stream:
        stream.truncate(4 << 30)
    passed: list[int] = []
    results = hash_files([HashJob("small", small, 1), HashJob("big", big, 4 << 30)], 2, passed.append)
    assert next(results)[0].key == "small"
    results.close()
    assert sum(passed) < 2 << 30


def test_an_unexpected_error_is_not_swallowed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")

    class Broken:
        def feed(self, _: memoryview) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(hash_files([HashJob("a", file, 1, (Broken(),))]))


def test_at_least_one_core_is_used() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
