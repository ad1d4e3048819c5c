"""Lists of any length in a backup: lines cut in pieces that are compressed objects, written and read one piece at a time.

Pieces end after a fixed number of lines, so that the earlier ones of a table that only grows stay the same objects.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

from portal.errors import IntegrityError
from portal.exchange.backup.document import Listing, Piece
from portal.exchange.backup.places import OBJECTS, BackupPlace, checked
from portal.storage.blobs import key_of
from portal.storage.hashing import hash_file

LINES = 50_000
BYTES = 64 << 20
"""A piece ends at either."""
LEVEL = 3


def write_listing(place: BackupPlace, lines: Iterable[bytes]) -> Listing:
    """Put lines, each with its newline, into the backup."""
    whole, pieces, rest = hashlib.sha256(), list[Piece](), iter(lines)
    with tempfile.TemporaryDirectory(prefix="portal-backup-") as folder:
        path = Path(folder) / "piece"
        while True:
            count, size = _fill(path, rest, whole)
            if count == 0:
                break
            sha256 = hash_file(path).sha256
            place.blobs.put_file(path, sha256)
            pieces.append(Piece(sha256, path.stat().st_size, count, size))
    return Listing(sum(piece.lines for piece in pieces), whole.hexdigest(), tuple(pieces))


def read_listing(place: BackupPlace, listing: Listing) -> Iterator[bytes]:
    """Its lines; every piece is compared with its sha256 before a line of it is given, the whole at the end.

    IntegrityError and FileMissing name the file.
    """
    whole = hashlib.sha256()
    for piece in listing.pieces:
        name = place.name(f"{OBJECTS}/{key_of(piece.sha256)}")
        with place.copy(piece.sha256, piece.size) as path:
            checked(place, piece.sha256, piece.size, hash_file(path))
            count = size = 0
            for line in _lines(path, name):
                whole.update(line)
                count, size = count + 1, size + len(line)
                if size > piece.bytes:
                    break
                yield line
        if (count, size) != (piece.lines, piece.bytes):
            raise IntegrityError(f"{name} holds other lines than the backup says.", "Take another backup.")
    if whole.hexdigest() != listing.sha256:
        raise IntegrityError("The lines of the backup are not those it was made of.", "Take another backup.")


def _fill(path: Path, rest: Iterator[bytes], whole: hashlib._Hash) -> tuple[int, int]:
    """Write the next piece; its lines and their bytes."""
    count = size = 0
    with path.open("wb") as stream:
        with zstandard.ZstdCompressor(LEVEL).stream_writer(stream, closefd=False) as writer:
            for line in rest:
                writer.write(line)
                whole.update(line)
                count, size = count + 1, size + len(line)
                if count >= LINES or size >= BYTES:
                    break
        stream.flush()
        os.fsync(stream.fileno())
    return count, size


def _lines(path: Path, name: str) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream, zstandard.ZstdDecompressor().stream_reader(stream) as reader:
            yield from io.BufferedReader(reader, 1 << 20)
    except zstandard.ZstdError:
        raise IntegrityError(f"{name} cannot be unpacked.", "Take another backup.") from None
