"""What a publication has already hashed, kept on disk: a killed one goes on where it stopped."""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import orjson

from portal.storage.hashing import FileDigest


class Journal:
    """One line per hashed file, appended whole; a line cut off by a kill is ignored."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, FileDigest] = {}
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        for line in lines:
            entry = _read(line)
            if entry:
                self._known[entry[0]] = entry[1]
        self._cut = bool(lines and lines[-1])
        self._stream: FileIO | None = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, uri: str, size: int | None, modified_ns: int | None) -> FileDigest | None:
        """The digest of a file that has not changed since it was hashed."""
        found = self._known.get(uri)
        return found if found and (found.size, found.modified_ns) == (size, modified_ns) else None

    def add(self, uri: str, digest: FileDigest) -> None:
        """Remember a hashed file."""
        entry = {
            "uri": uri,
            "sha256": digest.sha256,
            "size": digest.size,
            "modified_ns": digest.modified_ns,
            "block_size": digest.block_size,
            "algorithm": digest.algorithm,
            "blocks": base64.b64encode(digest.blocks).decode(),
        }
        line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            if self._stream is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                # Unbuffered: a line is the kernel's when this returns, whatever becomes of the process.
                self._stream = self._path.open("ab", buffering=0)
            self._stream.write(b"\n" + line if self._cut else line)
            self._cut = False
            self._known[uri] = digest

    def remove(self) -> None:
        """The catalog knows everything now."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep what is written for the next try."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def journal_path(folder: Path, run: str) -> Path:
    """Where the journal of a run lies."""
    return folder / run / "hashes.jsonl"


@contextmanager
def one_publisher(folder: Path, run: str) -> Iterator[None]:
    """Hold the run for this process; others on this machine wait.

    The lock is the kernel's, so it goes with a killed process.
    """
    path = folder / run / "lock"
    descriptor = _lock(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            # Empty unless a journal is left for the next try.
            path.parent.rmdir()
            path.parent.parent.rmdir()
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        # The holder before us removes file and folder when it is done: lock those that are there now.
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    return descriptor
            os.close(descriptor)


def _read(line: bytes) -> tuple[str, FileDigest] | None:
    try:
        entry = orjson.loads(line)
        blocks = base64.b64decode(entry["blocks"], validate=True)
        digest = FileDigest(
            entry["sha256"], entry["size"], entry["block_size"], blocks, entry["algorithm"], entry["modified_ns"]
        )
        return str(entry["uri"]), digest
    except (orjson.JSONDecodeError, KeyError, TypeError, binascii.Error):
        return None
