"""What every reader takes and gives: files in, rows or faults out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from portal.manifest.expand import ChunkEntry
from portal.storage import Meter, Store
from portal.tokens.spans import Span

Ids = npt.NDArray[np.integer[Any]]
"""Token ids in the width they are stored in, at most int64: widening a row costs as much as reading it."""

NO_ID = 1 << 63
"""The first number that `Ids` cannot hold."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ReadableFile:
    """A file of a chunk and the store that holds it."""

    path: str
    """As the manifest names it."""
    uri: str
    size: int | None
    sha256: str | None
    store: Store


@dataclass(frozen=True)
class ReadOptions:
    """What readers are told besides the chunk and its files."""

    index_folder: Path
    """Where line indexes and seek points are kept."""
    vocabulary: int | None = None
    """Number of token ids; ids at or above it are faults."""
    max_line_bytes: int = 64 << 20


class Row(NamedTuple):
    """One row as stored: ``token_ids`` is one-dimensional; ``file``, ``offset`` and ``length`` say where its bytes lie.

    For compressed text ``offset`` counts decompressed bytes. For parquet and arrow, whose smallest readable unit is
    larger than a row, it is the place of that unit.
    """

    row: int
    token_ids: Ids
    source: str | None
    file: str
    offset: int
    length: int
    extra: Mapping[str, Any]
    """Whatever else the row holds: further keys of a jsonl line, loss mask and labels of an HDF5 row."""


class RowFault(NamedTuple):
    """A row that cannot be read, and why; its neighbours are not affected."""

    row: int
    message: str
    remedy: str
    file: str
    offset: int


class Place(NamedTuple):
    """Where a row lies among the files of a chunk."""

    file: int
    row: int
    """Number of the row inside that file."""


@dataclass
class Tally:
    """Bytes and reads of several files together."""

    bytes_read: int = 0
    reads: int = 0
    meter: Meter = field(default_factory=Meter)
    """What of it went over a network."""

    def add_since(self, before: Tally, now: Tally) -> None:
        """Add what ``now`` counts more than ``before``."""
        self.bytes_read += now.bytes_read - before.bytes_read
        self.reads += now.reads - before.reads
        more, less = now.meter, before.meter
        self.meter.count(more.requests - less.requests, more.bytes - less.bytes, more.unverified - less.unverified)


class RowReader(ABC):
    """Rows of one chunk by number. Opening is cheap; `close` gives the files back."""

    def __init__(self, chunk: ChunkEntry, vocabulary: int | None) -> None:
        self.chunk = chunk
        self.vocabulary = vocabulary
        self.row_length = chunk.row_length
        self.rows = 0
        self.tally = Tally()

    @property
    def bytes_read(self) -> int:
        """Bytes read from the chunk's files since opening."""
        return self.tally.bytes_read

    @property
    def reads(self) -> int:
        """Reads it took."""
        return self.tally.reads

    def read(self, rows: Sequence[int]) -> list[Row | RowFault]:
        """The rows asked for, in that order; a row that cannot be read is a RowFault in its place."""
        if not rows:
            return []
        asked, first = rows if isinstance(rows, list) else list(rows), rows[0]
        run = range(first, first + len(asked))
        if asked == list(run):
            if first >= 0 and run.stop <= self.rows:
                return self._read(run)
        elif min(asked) >= 0 and max(asked) < self.rows:
            return self._read(asked)
        inside = [row for row in rows if 0 <= row < self.rows]
        found = iter(self._read(inside) if inside else [])
        return [next(found) if 0 <= row < self.rows else self._beyond(row) for row in rows]

    def check(self) -> list[str]:
        """Contradictions between the files and what the manifest says of them; empty when there are none."""
        said = self.chunk.rows
        if said is not None and said != self.rows:
            return [f"chunk {self.chunk.name}: the manifest declares {said:,} rows, its files hold {self.rows:,}"]
        return []

    @abstractmethod
    def close(self) -> None:
        """Give the files back. A closed reader reads no more."""

    def accept(self, row: Row) -> Row | RowFault:
        """``row`` itself, unless its length or an id contradicts the manifest."""
        what = self._wrong(row.token_ids)
        if what is None:
            return row
        return RowFault(row.row, what[0], what[1], row.file, row.offset)

    @abstractmethod
    def _read(self, rows: Sequence[int]) -> list[Row | RowFault]:
        """Rows that are known to exist; a range where they follow each other."""

    def _beyond(self, row: int) -> RowFault:
        return RowFault(
            row,
            f"chunk {self.chunk.name} has no row {row:,}; it holds {self.rows:,}",
            "The data order points past the file, or the file is cut short: compare its size with the release.",
            self.chunk.files[0].path if self.chunk.files else "",
            0,
        )

    def _wrong(self, ids: Ids) -> tuple[str, str] | None:
        if self.row_length is not None and len(ids) != self.row_length:
            return (
                f"the row holds {len(ids)} token ids, not {self.row_length}",
                "Correct the row, or `row_length` of the chunk if rows are that long.",
            )
        if not len(ids):
            return None
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= (NO_ID if self.vocabulary is None else self.vocabulary):
            at = int(ids.argmin()) if low < 0 else int(ids.argmax())
            known = (
                "which no vocabulary has"
                if self.vocabulary is None
                else f"outside the vocabulary of {self.vocabulary} ids"
            )
            return (
                f"token {at} of the row is id {low if low < 0 else high}, {known}",
                "Check the dtype and format of the chunk, and `model.vocabulary`.",
            )
        return None


class FileRows:
    """Rows counted through several files: row of the chunk -> (file, row of the file)."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.starts = [0, *accumulate(counts)]

    @property
    def total(self) -> int:
        """Rows of all files."""
        return self.starts[-1]

    def spans(self, rows: Sequence[int], begins: Sequence[int], size: int) -> list[Span]:
        """The bytes of rows of ``size`` bytes each, where those of file ``k`` begin at ``begins[k]``."""
        starts = self.starts
        files = [bisect_right(starts, row) - 1 for row in rows]
        return [
            Span(file, begins[file] + (row - starts[file]) * size, size) for file, row in zip(files, rows, strict=True)
        ]

    def locate(self, row: int) -> Place:
        """The file that holds ``row`` and its number there."""
        file = bisect_right(self.starts, row) - 1
        return Place(file, row - self.starts[file])


def as_ids(values: npt.NDArray[Any]) -> Ids:
    """Token ids as they are stored, in this machine's byte order; unsigned ones of 64 bits become signed.

    They stay unsigned where one is `NO_ID` or above, so that the fault of its row can tell the number.
    """
    dtype = values.dtype
    if dtype.kind == "u" and dtype.itemsize == 8 and (not values.size or values.max() < NO_ID):
        return values.astype(np.int64)
    return values if dtype.isnative else values.astype(dtype.newbyteorder("="))
